// First steps of the official Java client's README and examples, on pods of namespace shop.
// Prints what each saw, one JSON document in a line.
import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import io.kubernetes.client.Exec;
import io.kubernetes.client.PodLogs;
import io.kubernetes.client.PortForward;
import io.kubernetes.client.custom.V1Patch;
import io.kubernetes.client.informer.ResourceEventHandler;
import io.kubernetes.client.informer.SharedInformerFactory;
import io.kubernetes.client.openapi.ApiClient;
import io.kubernetes.client.openapi.ApiException;
import io.kubernetes.client.openapi.Configuration;
import io.kubernetes.client.openapi.apis.CoreV1Api;
import io.kubernetes.client.openapi.models.V1ConfigMap;
import io.kubernetes.client.openapi.models.V1ConfigMapList;
import io.kubernetes.client.openapi.models.V1Container;
import io.kubernetes.client.openapi.models.V1ObjectMeta;
import io.kubernetes.client.openapi.models.V1Pod;
import io.kubernetes.client.openapi.models.V1PodSpec;
import io.kubernetes.client.util.CallGeneratorParams;
import io.kubernetes.client.util.ClientBuilder;
import io.kubernetes.client.util.KubeConfig;
import io.kubernetes.client.util.PatchUtils;
import io.kubernetes.client.util.Watch;
import io.kubernetes.client.util.generic.KubernetesApiResponse;
import io.kubernetes.client.util.generic.GenericKubernetesApi;
import java.io.BufferedReader;
import java.io.FileReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

public class FirstSteps {
  static final String NAMESPACE = "shop";
  static final String NAME = "first-steps-java";
  static final String LABELS = "first-steps=java";
  static ApiClient client;
  static CoreV1Api core;

  static void show(String step, Object seen) {
    System.out.println(new Gson().toJson(new Object[] {step, seen}));
  }

  static V1ConfigMap settings(String color) {
    return new V1ConfigMap()
        .metadata(new V1ObjectMeta().name(NAME).labels(Map.of("first-steps", "java")))
        .data(Map.of("color", color));
  }

  static void objects() throws Exception {
    String version = core.listNamespacedConfigMap(NAMESPACE).labelSelector(LABELS).execute()
        .getMetadata().getResourceVersion();
    V1ConfigMap made = core.createNamespacedConfigMap(NAMESPACE, settings("blue")).execute();
    show("create", made.getData());
    V1Patch patch = new V1Patch("[{\"op\": \"add\", \"path\": \"/data/size\", \"value\": \"1\"}]");
    V1ConfigMap patched = PatchUtils.patch(V1ConfigMap.class,
        () -> core.patchNamespacedConfigMap(NAME, NAMESPACE, patch).buildCall(null),
        V1Patch.PATCH_FORMAT_JSON_PATCH, client);
    show("patch", patched.getData());
    String applied = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"" + NAME
        + "\"}, \"data\": {\"color\": \"red\"}}";
    show("apply", PatchUtils.patch(V1ConfigMap.class,
        () -> core.patchNamespacedConfigMap(NAME, NAMESPACE, new V1Patch(applied))
            .fieldManager("first-steps").force(true).buildCall(null),
        V1Patch.PATCH_FORMAT_APPLY_YAML, client).getData().get("color"));
    show("replace", core.replaceNamespacedConfigMap(NAME, NAMESPACE, settings("green")).execute().getData());
    show("delete", core.deleteNamespacedConfigMap(NAME, NAMESPACE).execute().getStatus());
    List<String> seen = new ArrayList<>();
    try (Watch<V1ConfigMap> watch = Watch.createWatch(client,
        core.listNamespacedConfigMap(NAMESPACE).labelSelector(LABELS).resourceVersion(version)
            .watch(true).buildCall(null),
        new TypeToken<Watch.Response<V1ConfigMap>>() {}.getType())) {
      for (Watch.Response<V1ConfigMap> event : watch) {
        seen.add(event.type);
        if (event.type.equals("DELETED")) break;
      }
    }
    show("watch", seen);
    try {
      core.readNamespacedConfigMap(NAME, NAMESPACE).execute();
    } catch (ApiException error) {
      show("absent", List.of(error.getCode(), error.getResponseBody().contains("NotFound")));
    }
  }

  static void informer() throws Exception {
    SharedInformerFactory factory = new SharedInformerFactory(client);
    CompletableFuture<String> added = new CompletableFuture<>();
    factory.sharedIndexInformerFor(
        (CallGeneratorParams params) -> core.listNamespacedConfigMap(NAMESPACE).labelSelector(LABELS)
            .resourceVersion(params.resourceVersion).timeoutSeconds(params.timeoutSeconds)
            .watch(params.watch).buildCall(null),
        V1ConfigMap.class, V1ConfigMapList.class)
        .addEventHandler(new ResourceEventHandler<V1ConfigMap>() {
          public void onAdd(V1ConfigMap it) { added.complete(it.getMetadata().getName()); }
          public void onUpdate(V1ConfigMap old, V1ConfigMap it) {}
          public void onDelete(V1ConfigMap it, boolean unknown) {}
        });
    factory.startAllRegisteredInformers();
    core.createNamespacedConfigMap(NAMESPACE, settings("blue")).execute();
    show("informer", added.get(30, TimeUnit.SECONDS));
    factory.stopAllRegisteredInformers();
    GenericKubernetesApi<V1ConfigMap, V1ConfigMapList> maps = new GenericKubernetesApi<>(
        V1ConfigMap.class, V1ConfigMapList.class, "", "v1", "configmaps", client);
    KubernetesApiResponse<V1ConfigMap> gone = maps.delete(NAMESPACE, NAME);
    show("generic delete", gone.isSuccess());
  }

  static void pods() throws Exception {
    show("limit", core.listPodForAllNamespaces().limit(2).execute().getItems().size());
    V1Pod pod = core.listNamespacedPod(NAMESPACE).labelSelector("app=web").execute().getItems().get(0);
    Process process = new Exec(client).exec(NAMESPACE, pod.getMetadata().getName(),
        new String[] {"sh", "-c", "echo out; exit 3"}, false, false);
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    show("exec", List.of(out, process.waitFor()));
    process.destroy();
    PortForward.PortForwardResult forwarded = new PortForward(client)
        .forward(NAMESPACE, pod.getMetadata().getName(), List.of(8080, 81));
    // Both streams before the first byte, and no flush: the page's server closes after its answer, and once the
    // WebSocket is closed, WebSocketStreamHandler.flush and getInputStream throw, however much is still to be read.
    // What is written is on its way: WebSocketOutputStream has no buffer.
    OutputStream ask = forwarded.getOutboundStream(8080);
    BufferedReader page = new BufferedReader(
        new InputStreamReader(forwarded.getInputStream(8080), StandardCharsets.UTF_8));
    ask.write("GET / HTTP/1.1\r\nHost: pod\r\n\r\n".getBytes(StandardCharsets.UTF_8));
    String line = page.readLine();
    while (line != null && !line.startsWith("hello")) line = page.readLine();
    show("port-forward", line);
    BufferedReader log = new BufferedReader(new InputStreamReader(new PodLogs(client).streamNamespacedPodLog(pod)));
    show("log", log.readLine().contains("demo["));
    log.close();
    core.createNamespacedPod(NAMESPACE, new V1Pod().metadata(new V1ObjectMeta().name(NAME))
        .spec(new V1PodSpec().addContainersItem(new V1Container().name("c").image("example/one")))).execute();
    show("delete pod", core.deleteNamespacedPod(NAME, NAMESPACE).execute().getKind());
  }

  public static void main(String[] arguments) throws Exception {
    KubeConfig config = KubeConfig.loadKubeConfig(new FileReader(System.getenv("KUBECONFIG")));
    client = ClientBuilder.kubeconfig(config).build();
    client.setReadTimeout(0);
    Configuration.setDefaultApiClient(client);
    core = new CoreV1Api(client);
    objects();
    informer();
    pods();
    System.exit(0);
  }
}
