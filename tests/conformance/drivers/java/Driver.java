// The Java client fabric8 (io.fabric8:kubernetes-client) as a driver; see driver_client.py.
// Arguments: kubeconfig, namespace.
import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.api.model.ListOptionsBuilder;
import io.fabric8.kubernetes.api.model.Pod;
import io.fabric8.kubernetes.client.Config;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.KubernetesClientException;
import io.fabric8.kubernetes.client.LocalPortForward;
import io.fabric8.kubernetes.client.Watch;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.dsl.ExecWatch;
import io.fabric8.kubernetes.client.dsl.LogWatch;
import io.fabric8.kubernetes.client.dsl.PodResource;
import io.fabric8.kubernetes.client.dsl.base.PatchContext;
import io.fabric8.kubernetes.client.dsl.base.PatchType;
import io.fabric8.kubernetes.client.extended.leaderelection.LeaderCallbacks;
import io.fabric8.kubernetes.client.extended.leaderelection.LeaderElectionConfigBuilder;
import io.fabric8.kubernetes.client.extended.leaderelection.LeaderElector;
import io.fabric8.kubernetes.client.extended.leaderelection.resourcelock.LeaseLock;
import io.fabric8.kubernetes.client.informers.ResourceEventHandler;
import io.fabric8.kubernetes.client.informers.SharedIndexInformer;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import java.util.regex.Pattern;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

public class Driver {
  static final JsonMapper JSON =
      JsonMapper.builder().enable(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS).build();
  static final int SECONDS = 60;
  static final BufferedReader LINES = new BufferedReader(new InputStreamReader(System.in));
  static String namespace;
  static KubernetesClient client;

  interface Operation {
    void run(Notes n) throws Exception;
  }

  /** The steps of one operation. */
  static class Notes {
    final List<Map<String, Object>> outcomes = Collections.synchronizedList(new ArrayList<>());

    void note(String step, Object output, int code, String errors) {
      Map<String, Object> outcome = new LinkedHashMap<>();
      outcome.put("step", step);
      outcome.put("code", code);
      outcome.put("output", output instanceof String ? output : shown(output));
      outcome.put("errors", errors);
      outcomes.add(outcome);
    }

    void note(String step, Object output) {
      note(step, output, 0, "");
    }

    /** Note an answer, or the API server's error; other errors break the operation. */
    <T> T call(String step, Supplier<T> call) {
      try {
        T answer = call.get();
        note(step, answer);
        return answer;
      } catch (KubernetesClientException error) {
        if (error.getStatus() == null) {
          throw error;
        }
        note(step, "", error.getCode(), shown(error.getStatus()));
        return null;
      }
    }
  }

  /** Any answer as text with stable order. */
  static String shown(Object value) {
    String text = client.getKubernetesSerialization().asJson(value);
    Object plain = JSON.readValue(text, Object.class);
    return JSON.writerWithDefaultPrettyPrinter().writeValueAsString(plain).replace("\" : ", "\": ");
  }

  static void until(String what, BooleanSupplier condition) throws Exception {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS);
    while (!condition.getAsBoolean()) {
      if (System.nanoTime() > deadline) {
        throw new IllegalStateException("waited " + SECONDS + " s for " + what);
      }
      Thread.sleep(50);
    }
  }

  static ConfigMap configMap(String name, String sky) {
    return new ConfigMapBuilder()
        .withNewMetadata().withName(name).withNamespace(namespace).addToLabels("app", name).endMetadata()
        .addToData("sky", sky)
        .build();
  }

  static PodResource pod(String name) {
    return client.pods().inNamespace(namespace).withName(name);
  }

  static void getJson(Notes n) {
    n.call("read", () -> pod("quiet").get());
    n.call("list", () -> client.pods().inNamespace(namespace).list());
    n.call("node", () -> client.nodes().withName("lab-node").get());
  }

  static void selectors(Notes n) {
    var pods = client.pods().inNamespace(namespace);
    n.call("labels", () -> names(pods.withLabelIn("app", "web").list().getItems()));
    n.call("fields", () -> names(pods.withField("metadata.name", "quiet").list().getItems()));
    n.call("nonsense", () -> names(pods.withField("nonsense", "1").list().getItems()));
  }

  static List<String> names(List<Pod> pods) {
    return pods.stream().map(found -> found.getMetadata().getName()).toList();
  }

  static void pagination(Notes n) {
    for (int i = 0; i < 7; i++) {
      ConfigMap page = configMap("page-" + i, "blue");
      page.getMetadata().getLabels().put("app", "pages");
      client.resource(page).create();
    }
    var pages = client.configMaps().inNamespace(namespace).withLabel("app", "pages");
    String[] token = {null};
    do {
      var options = new ListOptionsBuilder().withLimit(3L).withContinue(token[0]).build();
      var page = pages.list(options);
      n.note("page", page.getItems().stream().map(found -> found.getMetadata().getName()).toList());
      token[0] = page.getMetadata().getContinue();
    } while (token[0] != null && !token[0].isEmpty());
    pages.delete();
  }

  static void watch(Notes n) throws Exception {
    BlockingQueue<String> events = new LinkedBlockingQueue<>();
    var watched = client.configMaps().inNamespace(namespace).withLabel("app", "seen");
    Watcher<ConfigMap> watcher = new Watcher<>() {
      @Override
      public void eventReceived(Action action, ConfigMap found) {
        events.add(action + " " + found.getMetadata().getName() + " " + found.getData());
      }

      @Override
      public void onClose(WatcherException cause) {
        events.add("closed " + cause.getMessage());
      }
    };
    try (Watch watch = watched.watch(watcher)) {
      ConfigMap made = client.resource(configMap("seen", "blue")).create();
      made.getData().put("sky", "grey");
      client.resource(made).update();
      client.resource(made).delete();
      for (int i = 0; i < 3; i++) {
        n.note("event", String.valueOf(events.poll(SECONDS, TimeUnit.SECONDS)));
      }
    }
  }

  static Map<String, Object> known(SharedIndexInformer<ConfigMap> informer) {
    Map<String, Object> known = new TreeMap<>();
    informer.getStore().list().forEach(found -> known.put(found.getMetadata().getName(), found.getData()));
    return known;
  }

  static SharedIndexInformer<ConfigMap> informer(String app, List<String> told) {
    return client.configMaps().inNamespace(namespace).withLabel("app", app)
        .inform(new ResourceEventHandler<>() {
          @Override
          public void onAdd(ConfigMap found) {
            told.add("add " + found.getMetadata().getName() + " " + found.getData());
          }

          @Override
          public void onUpdate(ConfigMap old, ConfigMap found) {
            told.add("update " + found.getMetadata().getName() + " " + found.getData());
          }

          @Override
          public void onDelete(ConfigMap found, boolean unknown) {
            told.add("delete " + found.getMetadata().getName());
          }
        });
  }

  static void informer(Notes n) throws Exception {
    List<String> told = Collections.synchronizedList(new ArrayList<>());
    try (var informer = informer("informed", told)) {
      ConfigMap made = client.resource(configMap("informed", "blue")).create();
      made.getData().put("sky", "grey");
      client.resource(made).update();
      client.resource(made).delete();
      until("the deletion", () -> told.contains("delete informed"));
    }
    n.note("told", told);
  }

  static void informerRestart(Notes n) throws Exception {
    List<String> told = Collections.synchronizedList(new ArrayList<>());
    try (var informer = informer("lasting", told)) {
      until("the informer's first list", () -> informer.hasSynced() && known(informer).size() == 3);
      System.out.println("{\"ready\": true}");
      LINES.readLine();
      until("what happened after the restart", () -> known(informer).containsKey("last"));
      n.note("known", known(informer));
      until("the deletion", () -> told.contains("delete goes"));
    }
    n.note("told to be gone", new TreeSet<>(told.stream().filter(line -> line.startsWith("delete")).toList()));
  }

  static void create(Notes n) {
    n.call("create", () -> client.resource(configMap("made", "blue")).create());
    n.call("read", () -> client.configMaps().inNamespace(namespace).withName("made").get());
    n.call("delete", () -> client.resource(configMap("made", "blue")).delete());
  }

  static void replace(Notes n) {
    ConfigMap made = client.resource(configMap("made", "blue")).create();
    made.getData().put("sky", "grey");
    n.call("replace", () -> client.resource(made).update());
    n.call("stale", () -> client.resource(made).lockResourceVersion().update());
    client.resource(made).delete();
  }

  static void patch(Notes n) {
    client.resource(configMap("made", "blue")).create();
    var made = client.configMaps().inNamespace(namespace).withName("made");
    Map<PatchType, String> bodies = new LinkedHashMap<>();
    bodies.put(PatchType.STRATEGIC_MERGE, "{\"data\": {\"sky\": \"grey\"}}");
    bodies.put(PatchType.JSON_MERGE, "{\"data\": {\"sea\": \"deep\"}}");
    bodies.put(PatchType.JSON, "[{\"op\": \"add\", \"path\": \"/data/tone\", \"value\": \"dark\"}]");
    bodies.forEach((type, body) ->
        n.call(type.name(), () -> made.patch(PatchContext.of(type), body)));
    made.delete();
  }

  static void applyServer(Notes n) {
    n.call("apply", () -> applied("blue").fieldManager("one").serverSideApply());
    n.call("conflict", () -> applied("grey").fieldManager("other").serverSideApply());
    n.call("force", () -> applied("grey").fieldManager("other").forceConflicts().serverSideApply());
    applied("blue").delete();
  }

  static io.fabric8.kubernetes.client.dsl.NamespaceableResource<ConfigMap> applied(String sky) {
    return client.resource(configMap("applied", sky));
  }

  static void logs(Notes n) {
    n.call("all", () -> pod("quiet").getLog());
    n.call("tail", () -> pod("quiet").tailingLines(2).getLog());
  }

  static void logsFollow(Notes n) throws Exception {
    List<String> lines = new ArrayList<>();
    try (LogWatch follow = pod("web").watchLog();
        BufferedReader reader = new BufferedReader(new InputStreamReader(follow.getOutput()))) {
      while (lines.size() < 10) {
        lines.add(reader.readLine());
      }
    }
    n.note("ten lines", lines);
  }

  static void execute(Notes n, String step, String typed, String... command) throws Exception {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream errors = new ByteArrayOutputStream();
    var streams = typed.isEmpty()
        ? pod("web").writingOutput(out).writingError(errors)
        : pod("web").redirectingInput().writingOutput(out).writingError(errors);
    try (ExecWatch done = streams.exec(command)) {
      if (!typed.isEmpty()) {
        done.getInput().write(typed.getBytes(StandardCharsets.UTF_8));
        done.getInput().flush();
      }
      int code = done.exitCode().get(SECONDS, TimeUnit.SECONDS);
      n.note(step, out.toString(StandardCharsets.UTF_8), code, errors.toString(StandardCharsets.UTF_8));
    }
  }

  static void exec(Notes n) throws Exception {
    execute(n, "echo", "", "echo", "hello");
    execute(n, "exit code", "", "sh", "-c", "echo broken >&2; exit 7");
  }

  static void execStdin(Notes n) throws Exception {
    execute(n, "head", "one\ntwo\n", "head", "-n", "2");
  }

  static void execLarge(Notes n) throws Exception {
    execute(n, "4 MiB", "", "sh", "-c", "seq 1 600000");
  }

  static void copy(Notes n) throws Exception {
    byte[] bytes = "abcdefgh".repeat(100_000).getBytes(StandardCharsets.UTF_8);
    n.note("upload", String.valueOf(pod("web").file("/tmp/copied").upload(new ByteArrayInputStream(bytes))));
    Path here = Files.createTempFile("copied", "");
    n.note("download", String.valueOf(pod("web").file("/tmp/copied").copy(here)));
    n.note("bytes", Files.size(here));
    Files.delete(here);
  }

  static void portForward(Notes n) throws Exception {
    try (LocalPortForward forward = pod("web").portForward(8080)) {
      for (int i = 0; i < 3; i++) {
        var url = URI.create("http://127.0.0.1:" + forward.getLocalPort() + "/").toURL();
        HttpURLConnection connection = (HttpURLConnection) url.openConnection();
        connection.setReadTimeout(20_000);
        String text = new String(connection.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        n.note("request " + i, text, connection.getResponseCode(), "");
        connection.disconnect();
      }
    }
  }

  static CompletableFuture<?> candidate(String name, List<String> told) {
    var config = new LeaderElectionConfigBuilder()
        .withName("chair")
        .withLock(new LeaseLock(namespace, "chair", name))
        .withLeaseDuration(Duration.ofSeconds(4))
        .withRenewDeadline(Duration.ofSeconds(3))
        .withRetryPeriod(Duration.ofSeconds(1))
        .withReleaseOnCancel(true)
        .withLeaderCallbacks(new LeaderCallbacks(
            () -> told.add(name + " leads"), () -> told.add(name + " stops"), leader -> {}))
        .build();
    LeaderElector elector = client.leaderElector().withConfig(config).build();
    return elector.start();
  }

  static void leaderElection(Notes n) throws Exception {
    List<String> told = Collections.synchronizedList(new ArrayList<>());
    var leases = client.leases().inNamespace(namespace).withName("chair");
    var first = candidate("one", told);
    until("a leader", () -> told.contains("one leads"));
    var second = candidate("two", told);
    var renewed = leases.get().getSpec().getRenewTime();
    until("a renewal", () -> !renewed.equals(leases.get().getSpec().getRenewTime()));
    first.cancel(true);
    until("the next leader", () -> told.contains("two leads"));
    n.note("told", told);
    n.note("lease", leases.get().getSpec().getHolderIdentity());
    second.cancel(true);
    until("the end", () -> told.contains("two stops"));
    leases.delete();
  }

  static void version(Notes n) {
    n.call("version", () -> client.getKubernetesVersion().getGitVersion());
    n.call("groups", () -> client.getApiGroups());
  }

  static void absent(Notes n) {
    n.note("pod", String.valueOf(pod("absent").get()));
    n.call("log", () -> pod("absent").getLog());
  }

  static void conflict(Notes n) {
    client.resource(configMap("once", "")).create();
    n.call("again", () -> client.resource(configMap("once", "")).create());
    client.resource(configMap("once", "")).delete();
  }

  static void invalid(Notes n) {
    n.call("name", () -> client.resource(configMap("Not_A_Name", "")).create());
  }

  static void small(Notes n) throws Exception {
    n.call("list", () -> client.pods().inNamespace(namespace).withLabel("app", "quiet").list());
    watch(n);
    execute(n, "exec", "", "echo", "hello");
    n.call("logs", () -> pod("quiet").limitBytes(14).getLog());
    absent(n);
  }

  static Map<String, Operation> operations() {
    Map<String, Operation> all = new LinkedHashMap<>();
    all.put("get-json", Driver::getJson);
    all.put("selectors", Driver::selectors);
    all.put("pagination", Driver::pagination);
    all.put("watch", Driver::watch);
    all.put("informer", Driver::informer);
    all.put("informer-restart", Driver::informerRestart);
    all.put("create", Driver::create);
    all.put("replace", Driver::replace);
    all.put("patch", Driver::patch);
    all.put("apply-server", Driver::applyServer);
    all.put("logs", Driver::logs);
    all.put("logs-follow", Driver::logsFollow);
    all.put("exec", Driver::exec);
    all.put("exec-stdin", Driver::execStdin);
    all.put("exec-large", Driver::execLarge);
    all.put("cp", Driver::copy);
    all.put("port-forward", Driver::portForward);
    all.put("leader-election", Driver::leaderElection);
    all.put("api-resources", Driver::version);
    all.put("error-404", Driver::absent);
    all.put("error-409", Driver::conflict);
    all.put("error-422", Driver::invalid);
    for (String way : List.of("by-path", "by-host", "by-token", "static-token")) {
      all.put(way, Driver::small);
    }
    return all;
  }

  static Map<String, Object> perform(Operation operation) {
    Notes n = new Notes();
    try {
      if (client == null) {
        var config = Config.fromKubeconfig(new File(kubeconfig));
        // The one field of the cluster that the library leaves unread.
        var proxy = Pattern.compile("proxy-url: (\\S+)").matcher(Files.readString(Path.of(kubeconfig)));
        if (proxy.find()) {
          config.setHttpsProxy(proxy.group(1));
        }
        client = new KubernetesClientBuilder().withConfig(config).build();
      }
      operation.run(n);
      return Map.of("outcomes", n.outcomes);
    } catch (Exception error) {
      error.printStackTrace();
      Throwable cause = error;
      while (cause.getCause() != null) {
        cause = cause.getCause();
      }
      return Map.of("broken", error + " because of " + cause);
    }
  }

  static String kubeconfig;

  public static void main(String[] words) throws Exception {
    kubeconfig = words[0];
    namespace = words[1];
    Map<String, Operation> operations = operations();
    String version = words[2];
    System.out.println(JSON.writeValueAsString(
        Map.of("client", "fabric8 " + version, "operations", List.copyOf(operations.keySet()))));
    for (String key = LINES.readLine(); key != null; key = LINES.readLine()) {
      System.out.println(JSON.writeValueAsString(perform(operations.get(key.trim()))));
    }
    System.exit(0);
  }
}
