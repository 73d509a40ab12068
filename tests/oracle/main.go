// Answers, one JSON line for each on standard input, how Kubernetes itself reads a request line and
// its parts: with Go's net/http and k8s.io/apiserver, not with a copy of their rules. Bytes are
// base64 both ways, since neither side of a comparison may repair what is no UTF-8.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/go-logr/logr"
	"golang.org/x/net/http/httpproxy"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-helpers/auth/rbac/validation"
	"k8s.io/klog/v2"
)

type question struct {
	Ask    string `json:"ask"`    // request, labels, fields, int64, proxy, watch or rbac
	Method []byte `json:"method"` // for proxy the value of NO_PROXY, for a watch its Content-Type
	Text   []byte `json:"text"`   // the request target, the selector, the number, the https URL, a bound
}

type term struct {
	Field []byte `json:"field"`
	Equal bool   `json:"equal"`
	Value []byte `json:"value"`
}

type list struct {
	Error                string `json:"error"`
	Watch                bool   `json:"watch"`
	Limit                int64  `json:"limit"`
	TimeoutSeconds       *int64 `json:"timeoutSeconds"`
	Continue             []byte `json:"continue"`
	ResourceVersion      []byte `json:"resourceVersion"`
	ResourceVersionMatch []byte `json:"resourceVersionMatch"`
	ShardSelector        []byte `json:"shardSelector"`
	SendInitialEvents    *bool  `json:"sendInitialEvents"`
	AllowWatchBookmarks  bool   `json:"allowWatchBookmarks"`
	IncludeObject        []byte `json:"includeObject"`
	LabelSelector        []byte `json:"labelSelector"`
	FieldSelector        []byte `json:"fieldSelector"`
}

type event struct {
	Type   string          `json:"type"`
	Object json.RawMessage `json:"object"`
}

type reading struct {
	Error      string          `json:"error"`
	IsResource bool            `json:"resource_request"`
	Verb       string          `json:"verb"`
	Path       []byte          `json:"path"`
	Group      []byte          `json:"api_group"`
	Version    []byte          `json:"api_version"`
	Namespace  []byte          `json:"namespace"`
	Resource   []byte          `json:"resource"`
	Sub        []byte          `json:"subresource"`
	Name       []byte          `json:"name"`
	Fields     []byte          `json:"field_selector"`
	Labels     []byte          `json:"label_selector"`
	List       *list           `json:"list,omitempty"`
	Delete     json.RawMessage `json:"delete,omitempty"`
	DeleteErr  string          `json:"delete_error"`
	Terms      []term          `json:"terms"`
	Events     []event         `json:"events,omitempty"`
	Covered    []bool          `json:"covered,omitempty"`
}

// bound is the RBAC of somebody, and requests written as the rule that each of them needs.
type bound struct {
	Everywhere []rbacv1.PolicyRule            `json:"everywhere"`
	Namespaced map[string][]rbacv1.PolicyRule `json:"namespaced"`
	Needs      []need                         `json:"needs"`
}

type need struct {
	Namespace string            `json:"namespace"`
	Rule      rbacv1.PolicyRule `json:"rule"`
}

var factory = &request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

func failed(err error) reading { return reading{Error: err.Error()} }

func readRequest(method, target []byte) reading {
	head := bytes.Join([][]byte{method, target, []byte("HTTP/1.1\r\nHost: central\r\n\r\n")}, []byte(" "))
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err != nil {
		return failed(err)
	}
	info, err := factory.NewRequestInfo(r)
	if err != nil {
		return failed(err)
	}
	query := r.URL.Query()
	found := reading{
		IsResource: info.IsResourceRequest, Verb: info.Verb, Path: []byte(info.Path),
		Group: []byte(info.APIGroup), Version: []byte(info.APIVersion), Namespace: []byte(info.Namespace),
		Resource: []byte(info.Resource), Sub: []byte(info.Subresource), Name: []byte(info.Name),
		Fields: []byte(info.FieldSelector), Labels: []byte(info.LabelSelector),
	}
	switch info.Verb {
	case "list", "watch", "deletecollection":
		found.List = readList(query)
	}
	if info.Verb == "delete" || info.Verb == "deletecollection" {
		found.Delete, found.DeleteErr = readDelete(query)
	}
	return found
}

func readList(query url.Values) *list {
	options, table := internalversion.ListOptions{}, metav1.TableOptions{}
	if err := scheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, &options); err != nil {
		return &list{Error: err.Error()}
	}
	if err := scheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, &table); err != nil {
		return &list{Error: err.Error()}
	}
	found := &list{
		Watch: options.Watch, Limit: options.Limit, TimeoutSeconds: options.TimeoutSeconds,
		Continue: []byte(options.Continue), ResourceVersion: []byte(options.ResourceVersion),
		ResourceVersionMatch: []byte(options.ResourceVersionMatch), ShardSelector: []byte(options.ShardSelector),
		SendInitialEvents: options.SendInitialEvents, AllowWatchBookmarks: options.AllowWatchBookmarks,
		IncludeObject: []byte(table.IncludeObject),
	}
	if options.LabelSelector != nil {
		found.LabelSelector = []byte(options.LabelSelector.String())
	}
	if options.FieldSelector != nil {
		found.FieldSelector = []byte(options.FieldSelector.String())
	}
	return found
}

func readDelete(query url.Values) (json.RawMessage, string) {
	options := metav1.DeleteOptions{}
	if err := scheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, &options); err != nil {
		return nil, err.Error()
	}
	written, err := json.Marshal(options)
	if err != nil {
		return nil, err.Error()
	}
	return written, ""
}

func readFields(text []byte) reading {
	selector, err := fields.ParseSelector(string(text))
	if err != nil {
		return failed(err)
	}
	found := reading{Terms: []term{}}
	for _, one := range selector.Requirements() {
		equal := one.Operator == selection.Equals || one.Operator == selection.DoubleEquals
		found.Terms = append(found.Terms, term{[]byte(one.Field), equal, []byte(one.Value)})
	}
	return found
}

// readProxy says in its path through which proxy a URL is fetched; an empty one is the direct way.
func readProxy(noProxy, target []byte) reading {
	there, err := url.Parse(string(target))
	if err != nil {
		return failed(err)
	}
	settings := httpproxy.Config{HTTPSProxy: "http://proxy.invalid:3128", NoProxy: string(noProxy)}
	proxy, err := settings.ProxyFunc()(there)
	if err != nil {
		return failed(err)
	}
	if proxy == nil {
		return reading{}
	}
	return reading{Path: []byte(proxy.Host)}
}

var codecs = func() serializer.CodecFactory {
	types := runtime.NewScheme()
	metav1.AddToGroupVersion(types, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(types, serializer.WithSerializer(cbor.NewSerializerInfo))
}()

// readWatch reads a stream of events as client-go does (rest/request.go, rest/watch/decoder.go).
func readWatch(contentType, body []byte) reading {
	mediaType, _, err := mime.ParseMediaType(string(contentType))
	if err != nil {
		return failed(err)
	}
	if mediaType == runtime.ContentTypeCBORSequence {
		mediaType = runtime.ContentTypeCBOR
	}
	info, ok := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), mediaType)
	if !ok || info.StreamSerializer == nil {
		return reading{Error: "no such stream: " + mediaType}
	}
	frames := info.StreamSerializer.Framer.NewFrameReader(io.NopCloser(bytes.NewReader(body)))
	decoder := streaming.NewDecoder(frames, info.StreamSerializer.Serializer)
	found := reading{Events: []event{}}
	for {
		var got metav1.WatchEvent
		_, _, err := decoder.Decode(nil, &got)
		if err == io.EOF {
			return found
		}
		if err != nil {
			return failed(err)
		}
		object, err := runtime.Decode(codecs.UniversalDeserializer(), got.Object.Raw)
		if err != nil {
			return failed(err)
		}
		shown, err := json.Marshal(object)
		if err != nil {
			return failed(err)
		}
		found.Events = append(found.Events, event{got.Type, shown})
	}
}

// readBound says what somebody holds, by the code that refuses to hand on more than one has.
func readBound(text []byte) reading {
	var asked bound
	if err := json.Unmarshal(text, &asked); err != nil {
		return failed(err)
	}
	found := reading{Covered: []bool{}}
	for _, one := range asked.Needs {
		held := append(append([]rbacv1.PolicyRule{}, asked.Everywhere...), asked.Namespaced[one.Namespace]...)
		covered, _ := validation.Covers(held, []rbacv1.PolicyRule{one.Rule})
		found.Covered = append(found.Covered, covered)
	}
	return found
}

func answer(asked question) reading {
	switch asked.Ask {
	case "request":
		return readRequest(asked.Method, asked.Text)
	case "watch":
		return readWatch(asked.Method, asked.Text)
	case "rbac":
		return readBound(asked.Text)
	case "fields":
		return readFields(asked.Text)
	case "proxy":
		return readProxy(asked.Method, asked.Text)
	case "labels":
		if _, err := labels.Parse(string(asked.Text)); err != nil {
			return failed(err)
		}
		return reading{}
	case "int64":
		number, err := strconv.ParseInt(string(asked.Text), 10, 64)
		if err != nil {
			return failed(err)
		}
		return reading{List: &list{Limit: number}}
	}
	return reading{Error: "no such question: " + asked.Ask}
}

func main() {
	klog.SetLogger(logr.Discard()) // it says in a line of its own what it cannot parse
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		var asked []question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			panic(err)
		}
		answers := make([]reading, len(asked))
		for i, one := range asked {
			answers[i] = answer(one)
		}
		if err := json.NewEncoder(out).Encode(answers); err != nil {
			panic(err)
		}
		out.Flush()
	}
}
