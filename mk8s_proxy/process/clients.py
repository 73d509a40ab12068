"""What the settings allow to connections of clients. Called by `app`."""

from dataclasses import replace

from mk8s_agent.wire.limits import FRONT, KIB, Limits
from mk8s_proxy.listener.head_limits import HeadLimits
from mk8s_proxy.listener.http2 import ClientConfig, HandlerChain
from mk8s_proxy.settings.model import LimitSettings, Settings
from mk8s_proxy.settings.networks import parse_networks


def front_limits(limits: LimitSettings) -> Limits:
    """Of an HTTP/2 connection. A head somewhat over what clients are told is answered, not their
    whole connection ended; a peer that fills its frames needs one for each 16 KiB."""
    told = limits.header_list_bytes + limits.target_bytes
    longest = max(told + 64 * KIB, FRONT.header_list)
    return replace(
        FRONT,
        max_streams=limits.streams_per_connection,
        header_list_told=told,
        header_list=longest,
        header_block=longest,
        continuations=max(longest // FRONT.max_frame + 1, FRONT.continuations),
    )


def client_config(chain: HandlerChain, settings: Settings) -> ClientConfig:
    """What every connection is given."""
    limits = settings.limits
    return ClientConfig(
        chain,
        limits,
        head_limits=HeadLimits(limits.header_list_bytes, limits.target_bytes),
        underscores=settings.header_underscores,
        trusted_proxies=parse_networks(settings.trusted_proxies),
    )
