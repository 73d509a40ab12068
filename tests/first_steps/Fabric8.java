// First steps of fabric8's kubernetes-client (doc/CHEATSHEET.md), on pods of namespace shop.
// Prints what each saw, one JSON document in a line.
import io.fabric8.kubernetes.api.model.ConfigMap;
import io.fabric8.kubernetes.api.model.ConfigMapBuilder;
import io.fabric8.kubernetes.api.model.Pod;
import io.fabric8.kubernetes.api.model.PodBuilder;
import io.fabric8.kubernetes.client.KubernetesClient;
import io.fabric8.kubernetes.client.KubernetesClientBuilder;
import io.fabric8.kubernetes.client.LocalPortForward;
import io.fabric8.kubernetes.client.Watch;
import io.fabric8.kubernetes.client.Watcher;
import io.fabric8.kubernetes.client.WatcherException;
import io.fabric8.kubernetes.client.dsl.ExecWatch;
import io.fabric8.kubernetes.client.dsl.Resource;
import io.fabric8.kubernetes.client.informers.ResourceEventHandler;
import io.fabric8.kubernetes.client.informers.SharedIndexInformer;
import io.fabric8.kubernetes.client.utils.Serialization;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

public class Fabric8 {
  static final String NAMESPACE = "shop";
  static final String NAME = "first-steps-fabric8";

  static void show(String step, Object seen) {
    System.out.println(Serialization.asJson(new Object[] {step, seen}));
  }

  static ConfigMap settings(String color) {
    return new ConfigMapBuilder().withNewMetadata().withName(NAME).withLabels(Map.of("first-steps", "fabric8"))
        .endMetadata().withData(Map.of("color", color)).build();
  }

  static void objects(KubernetesClient client) throws Exception {
    List<String> seen = new ArrayList<>();
    CompletableFuture<Void> gone = new CompletableFuture<>();
    Resource<ConfigMap> one = client.configMaps().inNamespace(NAMESPACE).withName(NAME);
    try (Watch watching = client.configMaps().inNamespace(NAMESPACE).withLabel("first-steps", "fabric8")
        .watch(new Watcher<ConfigMap>() {
          public void eventReceived(Action action, ConfigMap item) {
            seen.add(action.name());
            if (action == Action.DELETED) gone.complete(null);
          }

          public void onClose(WatcherException cause) {
            gone.completeExceptionally(cause);
          }
        })) {
      show("create", client.resource(settings("blue")).inNamespace(NAMESPACE).create().getData());
      show("edit", one.edit(it -> new ConfigMapBuilder(it).addToData("size", "1").build()).getData());
      show("apply", client.resource(settings("red")).inNamespace(NAMESPACE).fieldManager("first-steps")
          .forceConflicts().serverSideApply().getData().get("color"));
      show("delete", one.delete().size());
      gone.get(30, TimeUnit.SECONDS);
    }
    show("watch", seen);
    show("absent", one.get() == null);
  }

  static void informer(KubernetesClient client) throws Exception {
    CompletableFuture<String> added = new CompletableFuture<>();
    try (SharedIndexInformer<ConfigMap> informer = client.configMaps().inNamespace(NAMESPACE)
        .withLabel("first-steps", "fabric8").inform(new ResourceEventHandler<ConfigMap>() {
          public void onAdd(ConfigMap it) { added.complete(it.getMetadata().getName()); }
          public void onUpdate(ConfigMap old, ConfigMap it) {}
          public void onDelete(ConfigMap it, boolean unknown) {}
        })) {
      client.resource(settings("blue")).inNamespace(NAMESPACE).create();
      show("informer", added.get(30, TimeUnit.SECONDS));
    }
    client.configMaps().inNamespace(NAMESPACE).withLabel("first-steps", "fabric8").delete();
  }

  static void pods(KubernetesClient client) throws Exception {
    show("pods", client.pods().inAnyNamespace().withLabel("app", "web").list().getItems().size());
    String pod = client.pods().inNamespace(NAMESPACE).withLabel("app", "web").list().getItems().get(0)
        .getMetadata().getName();
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (ExecWatch exec = client.pods().inNamespace(NAMESPACE).withName(pod).writingOutput(out)
        .exec("sh", "-c", "echo out; exit 3")) {
      show("exec", List.of(exec.exitCode().get(30, TimeUnit.SECONDS), out.toString()));
    }
    try (LocalPortForward forward = client.pods().inNamespace(NAMESPACE).withName(pod).portForward(8080)) {
      URI page = URI.create("http://127.0.0.1:" + forward.getLocalPort() + "/");
      show("port-forward", HttpClient.newHttpClient()
          .send(HttpRequest.newBuilder(page).build(), HttpResponse.BodyHandlers.ofString()).body());
    }
    show("log", client.pods().inNamespace(NAMESPACE).withName(pod).tailingLines(3).getLog().split("\n").length);
    Pod own = new PodBuilder().withNewMetadata().withName(NAME).endMetadata().withNewSpec()
        .addNewContainer().withName("c").withImage("example/one").endContainer().endSpec().build();
    client.resource(own).inNamespace(NAMESPACE).create();
    client.pods().inNamespace(NAMESPACE).withName(NAME).waitUntilReady(30, TimeUnit.SECONDS);
    show("delete pod", client.pods().inNamespace(NAMESPACE).withName(NAME).delete().size());
  }

  public static void main(String[] arguments) throws Exception {
    try (KubernetesClient client = new KubernetesClientBuilder().build()) {
      objects(client);
      informer(client);
      pods(client);
    }
    System.exit(0);
  }
}
