"""Which attack is a deterministic test as well: quick, on one part, with no clock to disturb it."""
# ruff: noqa: E501  names of tests are sentences

TESTS: dict[str, dict[str, str]] = {
    "tests/agent/test_agent_owners.py": {
        "reader-zero-reads": "test_attack_stalled_readers_at_the_agent_end_their_own_answers",
    },
    "tests/agent/test_agent_tunnel.py": {
        "apiserver-401": "test_401_of_the_api_server_is_the_agent_s_own_trouble",
    },
    "tests/agent/test_apiserver_pool.py": {
        "pod-huge-head-h1": "test_attack_a_pod_s_answer_ends_its_own_stream_only",
        "pod-informational-h1": "test_attack_a_pod_s_answer_ends_its_own_stream_only",
    },
    "tests/agent/test_chunk_lines.py": {
        "smuggling-chunks": "test_attack_a_line_that_nobody_reads",
    },
    "tests/agent/test_http2_frame_reader.py": {
        "flood-continuation-large": "test_attack_a_dropped_block_without_end_ends_the_connection",
    },
    "tests/agent/test_http2_trailers.py": {
        "pod-huge-trailers-h1": "test_attack_trailers_that_cannot_be_read_cost_their_own_stream",
    },
    "tests/agent/test_wire_floods.py": {
        "flood-continuation-empty": "test_continuation_flood",
        "flood-empty-data": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-hpack-bomb": "test_hpack_bomb_cve_2016_6581",
        "flood-made-reset-length": "test_made_you_reset_by_a_body_that_is_too_long",
        "flood-made-reset-window": "test_made_you_reset_cve_2025_8671",
        "flood-padded-data": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-ping": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-priority": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-rapid-reset": "test_rapid_reset_cve_2023_44487",
        "flood-settings": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-settings-windows": "test_attack_windows_of_many_streams_changed_again_and_again",
        "flood-unknown-frames": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-window-updates": "test_flood_of_frames_that_cost_the_sender_nothing",
        "flood-zero-windows": "test_zero_window_reader",
    },
    "tests/agent/test_wire_heap.py": {
        "list-one-object": "test_attack_large_objects_leave_no_memory_behind",
        "list-metadata": "test_attack_large_objects_leave_no_memory_behind",
    },
    "tests/agent/test_wire_hpack.py": {
        "flood-broken-blocks": "test_attack_a_block_that_ends_within_a_field_writes_no_backtrace",
        "flood-hpack-empty-fields": "test_attack_very_many_fields_are_refused_before_they_are_made",
        "flood-hpack-integers": "test_attack_an_integer_without_an_end",
        "flood-hpack-table-sizes": "test_attack_size_updates_without_end",
    },
    "tests/agent/test_wire_http1_upstream.py": {
        "upgrade-refused": "test_cve_2018_1002105_and_cve_2020_8559_no_bytes_without_the_switch",
    },
    "tests/agent/test_wire_http2_server.py": {
        "agent-junk": "test_any_bytes_end_in_order_or_in_a_goaway",
        "flood-made-reset-overflow": "test_a_stream_window_over_the_maximum_ends_its_stream",
        "flood-push-promise": "test_a_broken_rule_ends_the_connection",
    },
    "tests/agent/test_wire_transport.py": {
        "stranger-half-handshakes": "test_slowloris_of_the_handshake",
    },
    "tests/proxy/test_access_token.py": {
        "tokens-forged": "test_hs256_signed_with_the_public_pem",
    },
    "tests/proxy/test_api_join.py": {
        "agent-join-replayed": "test_join_token_replayed",
    },
    "tests/proxy/test_api_login.py": {
        "login-lock-out": "test_attack_sixty_addresses_keep_nobody_out_where_he_logged_in_before",
    },
    "tests/proxy/test_api_upstream.py": {
        "stranger-half-logins": "test_attack_logins_that_never_come_make_room_for_one_that_does",
    },
    "tests/proxy/test_api_users.py": {
        "login-last-admin": "test_the_last_admin_stays",
    },
    "tests/proxy/test_audit_encoding.py": {
        "audit-hostile-text": "test_any_text_is_one_line",
    },
    "tests/proxy/test_audit_journal.py": {
        "audit-enospc": "test_a_disk_that_is_really_full",
        "audit-fsync": "test_no_request_is_admitted_after_a_failed_sync",
        "audit-kill-9": "test_requests_open_at_a_crash_are_closed_as_unknown",
        "audit-moved": "test_attack_journal_goes_away",
        "audit-removed": "test_attack_journal_goes_away",
        "audit-short-writes": "test_a_short_write_leaves_nothing_half_written",
        "audit-unwritable": "test_attack_journal_removed_where_no_new_one_can_begin",
    },
    "tests/proxy/test_audit_redaction.py": {
        "audit-canaries": "test_attack_canary_in_the_query",
        "stranger-query-and": "test_attack_secret_behind_more_parameters_than_are_looked_at",
        "stranger-query-names": "test_attack_many_encoded_names",
        "stranger-query-semicolon": "test_attack_secret_behind_more_parameters_than_are_looked_at",
    },
    "tests/proxy/test_audit_stalls.py": {
        "audit-slow-disk": "test_attack_disk_stall_requests_wait_and_then_leave",
    },
    "tests/proxy/test_audit_strangers.py": {
        "stranger-audit-wash": "test_attack_refusals_wash_the_audit_away",
    },
    "tests/proxy/test_authz_rules_review.py": {
        "nodes-proxy": "test_nodes_proxy_only_where_it_is_spelled_out",
    },
    "tests/proxy/test_ca.py": {
        "agent-no-certificate": "test_forged_agent_certificates_fail_the_handshake",
    },
    "tests/proxy/test_client_http1.py": {
        "smuggling-bodies": "test_attack_smuggling_has_a_reason_of_its_own",
        "smuggling-lines": "test_smuggling",
        "stranger-drip": "test_attack_a_head_byte_by_byte_is_searched_once",
        "stranger-large-heads-h1": "test_attack_a_head_over_the_limit_is_refused_where_that_is_known",
        "stranger-refusals-h1": "test_attack_a_connection_that_only_gets_refusals_is_closed",
    },
    "tests/proxy/test_client_http2.py": {
        "flood-rapid-reset-stranger": "test_attack_a_connection_that_only_gets_refusals_is_told_to_go",
        "stranger-large-heads-h2": "test_attack_heads_over_the_limit_are_refused_unread",
        "stranger-refusals-h2": "test_attack_a_connection_that_only_gets_refusals_is_told_to_go",
    },
    "tests/proxy/test_connection_limits.py": {
        "stranger-handshakes": "test_attack_sockets_that_say_nothing_push_out_each_other",
    },
    "tests/proxy/test_db_outages.py": {
        "database-removed": "test_a_sqlite_file_that_is_gone_is_not_written_to",
    },
    "tests/proxy/test_filtering_lists.py": {
        "list-brackets": "test_attack_what_is_remembered_of_brackets_is_bounded",
        "list-deep-braces": "test_attack_braces_cost_less_than_a_step_each",
    },
    "tests/proxy/test_filtering_request.py": {
        "query-limits": "test_attack_a_page_so_small_that_its_end_tells_of_hidden_objects",
    },
    "tests/proxy/test_handler_chain.py": {
        "upgrade-read-only": "test_attack_a_role_that_may_watch_opens_no_shell_over_websocket",
    },
    "tests/proxy/test_listener.py": {
        "stranger-idle": "test_attack_idle_strangers_make_room_for_who_comes",
        "stranger-idle-one-address": "test_attack_one_address_does_not_take_all_connections",
    },
    "tests/proxy/test_login_queue.py": {
        "login-matrix": "test_the_sixth_of_a_pair_waits_for_the_first_and_gets_in",
    },
    "tests/proxy/test_replicas.py": {
        "login-logout-restart": "test_attack_a_copied_token_goes_on_at_another_replica_after_the_logout",
    },
    "tests/proxy/test_request_target.py": {
        "query-many-pairs": "test_attack_a_query_with_so_many_pairs_that_go_drops_it",
        "smuggling-targets": "test_smuggled_target",
    },
    "tests/proxy/test_response_head.py": {
        "pod-presents": "test_attack_fields_that_would_speak_for_central_are_dropped",
    },
    "tests/proxy/test_shares.py": {
        "reader-drips": "test_attack_stalled_readers_end_their_own_answers_only",
        "reader-full-tunnels": "test_attack_a_tunnel_full_of_watches_takes_short_requests",
        "reader-uploads": "test_attack_an_upload_that_nobody_takes_is_the_uploader_s",
        "reader-watches": "test_attack_one_person_s_watches_leave_others_their_cluster",
    },
    "tests/proxy/test_throttle.py": {
        "stranger-guesses": "test_credential_stuffing_from_one_source",
    },
    "tests/proxy/test_tunnel_control.py": {
        "agent-certificates": "test_attack_a_certificate_that_was_recorded_for_another_cluster",
    },
    "tests/proxy/test_tunnel_registry.py": {
        "agent-added-again": "test_attack_a_cluster_added_again_under_its_name_has_not_its_old_agent",
        "agent-revoked": "test_attack_a_revoked_certificate_loses_its_tunnels_and_no_other",
    },
    "tests/proxy/test_tunnel_session.py": {
        "agent-head-bomb": "test_attack_a_huge_head_of_the_control_stream_ends_the_tunnel",
        "pod-huge-head": "test_attack_a_pod_s_huge_head_ends_its_own_stream_only",
        "pod-huge-trailers": "test_attack_huge_trailers_end_their_own_stream_only",
        "pod-informational": "test_attack_informational_heads_without_end_cost_their_own_stream_only",
        "pod-many-fields": "test_attack_a_head_of_very_many_fields_ends_its_own_stream_only",
    },
    "tests/proxy/test_upgrade_head.py": {
        "smuggling-identities": "test_hop_by_hop_stripping_attack",
        "upgrade-protocols": "test_blind_upgrade_attack",
    },
}
"""By file: the test of each attack."""
