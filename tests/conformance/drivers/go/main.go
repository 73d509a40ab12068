// The Go client (k8s.io/client-go, what controllers are made of) as a driver; see driver_client.py.
// Arguments: kubeconfig, namespace.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	authentication "k8s.io/api/authentication/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/features"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/remotecommand"
)

const protobuf = "application/vnd.kubernetes.protobuf"

var (
	kubeconfig, namespace = os.Args[1], os.Args[2]
	ctx                   = context.Background()
	lines                 = bufio.NewScanner(os.Stdin)
)

type outcome struct {
	Step   string `json:"step"`
	Code   int    `json:"code"`
	Output string `json:"output"`
	Errors string `json:"errors"`
}

// missing is an operation that the API server cannot do.
type missing string

func (m missing) Error() string { return string(m) }

type notes struct{ outcomes []outcome }

func (n *notes) note(step string, output any) {
	text, is := output.(string)
	if !is {
		shown, _ := json.MarshalIndent(output, "", " ")
		text = string(shown)
	}
	n.outcomes = append(n.outcomes, outcome{Step: step, Output: text})
}

// call notes an answer or the API server's error; other errors break the operation.
func (n *notes) call(step string, answer any, err error) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		shown, _ := json.MarshalIndent(status.Status(), "", " ")
		n.outcomes = append(n.outcomes, outcome{Step: step, Code: int(status.Status().Code), Errors: string(shown)})
		return nil
	}
	if err == nil {
		n.note(step, answer)
	}
	return err
}

// traffic notes what went over the wire.
type traffic struct {
	next http.RoundTripper
	lock sync.Mutex
	seen []string
}

func (t *traffic) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := t.next.RoundTrip(request)
	if err == nil {
		t.lock.Lock()
		defer t.lock.Unlock()
		t.seen = append(t.seen, fmt.Sprintf("%s %s -> %d %s", request.Method,
			request.Header.Get("Content-Type"), answer.StatusCode, answer.Header.Get("Content-Type")))
	}
	return answer, err
}

func config() *rest.Config {
	made, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		panic(err)
	}
	return made
}

func clients(made *rest.Config) *kubernetes.Clientset { return kubernetes.NewForConfigOrDie(made) }

func maps() typedcore.ConfigMapInterface { return clients(config()).CoreV1().ConfigMaps(namespace) }

func configMap(name, sky string) *core.ConfigMap {
	labels := map[string]string{"app": name}
	return &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"sky": sky}}
}

func changes(name string) error {
	if _, err := maps().Create(ctx, configMap(name, "blue"), meta.CreateOptions{}); err != nil {
		return err
	}
	grey := []byte(`{"data":{"sky":"grey"}}`)
	if _, err := maps().Patch(ctx, name, types.MergePatchType, grey, meta.PatchOptions{}); err != nil {
		return err
	}
	return maps().Delete(ctx, name, meta.DeleteOptions{})
}

// informer is a shared informer as controllers have it: list and watch, or WatchList.
func informer(n *notes) error {
	made := config()
	made.ContentType = protobuf
	made.AcceptContentTypes = protobuf + ",application/json"
	narrow := func(options *meta.ListOptions) { options.LabelSelector = "app=informed" }
	factory := informers.NewSharedInformerFactoryWithOptions(clients(made), 0,
		informers.WithNamespace(namespace), informers.WithTweakListOptions(narrow))
	shared := factory.Core().V1().ConfigMaps().Informer()
	events := make(chan string, 10)
	told := func(kind string, object any) {
		if gone, is := object.(cache.DeletedFinalStateUnknown); is {
			object = gone.Obj
		}
		found := object.(*core.ConfigMap)
		events <- kind + " " + found.Name + " " + found.Data["sky"]
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { told("add", object) },
		UpdateFunc: func(_, object any) { told("update", object) },
		DeleteFunc: func(object any) { told("delete", object) },
	}
	if _, err := shared.AddEventHandler(handler); err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(limited.Done(), shared.HasSynced) {
		return errors.New("the informer does not sync")
	}
	if err := changes("informed"); err != nil {
		return err
	}
	for {
		select {
		case event := <-events:
			n.note("event", event)
			if strings.HasPrefix(event, "delete") {
				return nil
			}
		case <-limited.Done():
			return errors.New("events are missing")
		}
	}
}

// typed writes and reads protobuf.
func typed(n *notes) error {
	made := config()
	made.ContentType = protobuf
	wire := &traffic{}
	made.Wrap(func(next http.RoundTripper) http.RoundTripper { wire.next = next; return wire })
	api := clients(made).CoreV1()
	created, err := api.ConfigMaps(namespace).Create(ctx, configMap("typed", "blue"), meta.CreateOptions{})
	if err := n.call("create", created, err); err != nil {
		return err
	}
	pods, err := api.Pods(namespace).List(ctx, meta.ListOptions{LabelSelector: "app=quiet"})
	if err := n.call("list", pods, err); err != nil {
		return err
	}
	_, err = api.Pods(namespace).Get(ctx, "absent", meta.GetOptions{})
	if err := n.call("absent", nil, err); err != nil {
		return err
	}
	err = api.ConfigMaps(namespace).Delete(ctx, "typed", meta.DeleteOptions{})
	n.note("wire", wire.seen)
	return err
}

// concise opens client-go's gates for CBOR.
type concise struct{ features.Gates }

func (g concise) Enabled(key features.Feature) bool {
	return key == features.ClientsAllowCBOR || key == features.ClientsPreferCBOR || g.Gates.Enabled(key)
}

// cbor sends CBOR first, and JSON after the API server has answered 415.
func cbor(n *notes) error {
	usual := features.FeatureGates()
	features.ReplaceFeatureGates(concise{usual})
	defer features.ReplaceFeatureGates(usual)
	wire := &traffic{}
	made := config()
	made.Wrap(func(next http.RoundTripper) http.RoundTripper { wire.next = next; return wire })
	resource := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	api := dynamic.NewForConfigOrDie(made).Resource(resource).Namespace(namespace)
	body := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "concise"}, "data": map[string]any{"sky": "blue"}}}
	created, err := api.Create(ctx, body, meta.CreateOptions{})
	if apierrors.IsUnsupportedMediaType(err) {
		_ = n.call("create in CBOR", nil, err)
		created, err = api.Create(ctx, body, meta.CreateOptions{})
	}
	if err := n.call("create", created, err); err != nil {
		return err
	}
	found, err := api.Get(ctx, "concise", meta.GetOptions{})
	if err := n.call("get", found, err); err != nil {
		return err
	}
	if err := api.Delete(ctx, "concise", meta.DeleteOptions{}); err != nil {
		return err
	}
	n.note("wire", wire.seen)
	return nil
}

func applied(n *notes) error {
	apply := func(step, sky, manager string, force bool) error {
		wanted := applycore.ConfigMap("applied", namespace).WithData(map[string]string{"sky": sky})
		answer, err := maps().Apply(ctx, wanted, meta.ApplyOptions{FieldManager: manager, Force: force})
		return n.call(step, answer, err)
	}
	err := errors.Join(apply("apply", "blue", "one", false), apply("conflict", "grey", "other", false),
		apply("force", "grey", "other", true))
	return errors.Join(err, maps().Delete(ctx, "applied", meta.DeleteOptions{}))
}

func execute(n *notes, step, typed string, command ...string) error {
	options := &core.PodExecOptions{Command: command, Stdin: typed != "", Stdout: true, Stderr: true}
	request := clients(config()).CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).
		Name("web").SubResource("exec").VersionedParams(options, scheme.ParameterCodec)
	websocket, err := remotecommand.NewWebSocketExecutor(config(), "GET", request.URL().String())
	if err != nil {
		return err
	}
	spdy, err := remotecommand.NewSPDYExecutor(config(), "POST", request.URL())
	if err != nil {
		return err
	}
	// As kubectl does it.
	executor, err := remotecommand.NewFallbackExecutor(websocket, spdy, func(error) bool { return true })
	if err != nil {
		return err
	}
	var out, said bytes.Buffer
	streams := remotecommand.StreamOptions{Stdout: &out, Stderr: &said}
	if typed != "" {
		streams.Stdin = strings.NewReader(typed)
	}
	limited, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = executor.StreamWithContext(limited, streams)
	n.outcomes = append(n.outcomes, outcome{Step: step, Output: out.String(), Errors: fmt.Sprint(said.String(), err)})
	return limited.Err()
}

func exec(n *notes) error {
	return errors.Join(execute(n, "echo", "", "echo", "hello"),
		execute(n, "exit code", "", "sh", "-c", "echo broken >&2; exit 7"))
}

func execStdin(n *notes) error { return execute(n, "cat", "one\ntwo\n", "cat") }

func logsFollow(n *notes) error {
	request := clients(config()).CoreV1().Pods(namespace).GetLogs("web", &core.PodLogOptions{Follow: true})
	stream, err := request.Stream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	logged := bufio.NewScanner(stream)
	for number := 0; number < 10 && logged.Scan(); number++ {
		n.note("line", logged.Text())
	}
	return logged.Err()
}

func whoami(n *notes) error {
	api := clients(config()).AuthenticationV1().SelfSubjectReviews()
	answer, err := api.Create(ctx, &authentication.SelfSubjectReview{}, meta.CreateOptions{})
	if apierrors.IsNotFound(err) {
		return missing("the API server has no SelfSubjectReview")
	}
	return n.call("whoami", answer, err)
}

func failures(n *notes) error {
	_, err := clients(config()).CoreV1().Pods(namespace).Get(ctx, "absent", meta.GetOptions{})
	return n.call("pod", nil, err)
}

func conflict(n *notes) error {
	if _, err := maps().Create(ctx, configMap("once", ""), meta.CreateOptions{}); err != nil {
		return err
	}
	_, err := maps().Create(ctx, configMap("once", ""), meta.CreateOptions{})
	return errors.Join(n.call("again", nil, err), maps().Delete(ctx, "once", meta.DeleteOptions{}))
}

func small(n *notes) error {
	return errors.Join(typed(n), informer(n), execute(n, "exec", "", "echo", "hello"), failures(n))
}

var operations = map[string]func(*notes) error{
	"informer": informer, "informer-restart": informerRestart, "leader-election": leaderElection,
	"get-json": getJSON, "watch": watching, "port-forward": portForward, "protobuf": typed, "cbor": cbor, "apply-server": applied, "exec": exec,
	"exec-stdin": execStdin, "logs-follow": logsFollow, "whoami": whoami, "error-404": failures,
	"error-409": conflict, "by-path": small, "by-token": small, "by-host": small, "static-token": small,
	"new-watch-list": informer, "new-exec": exec, "new-write": applied, "new-whoami": whoami,
}

func version() string {
	told, _ := debug.ReadBuildInfo()
	for _, module := range told.Deps {
		if module.Path == "k8s.io/client-go" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return ""
}

func perform(key string) map[string]any {
	n := &notes{}
	err := operations[key](n)
	var without missing
	switch {
	case errors.As(err, &without):
		return map[string]any{"unavailable": string(without)}
	case err != nil:
		return map[string]any{"broken": err.Error()}
	}
	return map[string]any{"outcomes": n.outcomes}
}

func main() {
	keys := make([]string, 0, len(operations))
	for key := range operations {
		keys = append(keys, key)
	}
	answers := json.NewEncoder(os.Stdout)
	_ = answers.Encode(map[string]any{"client": "client-go " + version(), "operations": keys})
	for lines.Scan() {
		_ = answers.Encode(perform(strings.TrimSpace(lines.Text())))
	}
}
