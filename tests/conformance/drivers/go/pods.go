// What tools on client-go do with pods, and the plainest reading.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
)

func getJSON(n *notes) error {
	api := clients(config()).CoreV1()
	pod, err := api.Pods(namespace).Get(ctx, "quiet", meta.GetOptions{})
	listed, listErr := api.Pods(namespace).List(ctx, meta.ListOptions{})
	node, nodeErr := api.Nodes().Get(ctx, "lab-node", meta.GetOptions{})
	return errors.Join(n.call("read", pod, err), n.call("list", listed, listErr), n.call("node", node, nodeErr))
}

// watching lists, watches from there, and sees each change once and in order.
func watching(n *notes) error {
	labels := meta.ListOptions{LabelSelector: "app=seen"}
	listed, err := maps().List(ctx, labels)
	if err != nil {
		return err
	}
	if err := changes("seen"); err != nil {
		return err
	}
	seconds := int64(20)
	labels.ResourceVersion, labels.TimeoutSeconds = listed.ResourceVersion, &seconds
	events, err := maps().Watch(ctx, labels)
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		found, is := event.Object.(*core.ConfigMap)
		if !is {
			return fmt.Errorf("the watch tells %v", event)
		}
		n.note("event", fmt.Sprint(event.Type, found.Name, found.Data))
		if event.Type == "DELETED" {
			return nil
		}
	}
	return errors.New("the watch ended before its last event")
}

// portForward goes over a WebSocket first, then SPDY, as kubectl does.
func portForward(n *notes) error {
	made := config()
	transport, upgrader, err := spdy.RoundTripperFor(made)
	if err != nil {
		return err
	}
	url := clients(made).CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).
		Name("web").SubResource("portforward").URL()
	bySPDY := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	byWebSocket, err := portforward.NewSPDYOverWebsocketDialer(url, made)
	if err != nil {
		return err
	}
	dialer := portforward.NewFallbackDialer(byWebSocket, bySPDY, func(error) bool { return true })
	stop, ready := make(chan struct{}), make(chan struct{})
	defer close(stop)
	forwarder, err := portforward.New(dialer, []string{"0:8080"}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		return fmt.Errorf("the port is not forwarded: %w", err)
	case <-time.After(30 * time.Second):
		return errors.New("the port is not forwarded")
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	for number := range 3 {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local))
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			return err
		}
		n.note(fmt.Sprint("request ", number), string(text))
	}
	return nil
}
