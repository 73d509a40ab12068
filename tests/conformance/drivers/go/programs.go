// What controllers do all day: an informer that outlives its connection, a leader election.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

func until(what string, condition func() bool) error {
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("waited in vain for " + what)
		}
	}
	return nil
}

// log is a list that several goroutines write.
type log struct {
	lock  sync.Mutex
	lines []string
}

func (l *log) add(line string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.lines = append(l.lines, line)
}

func (l *log) all() []string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return append([]string{}, l.lines...)
}

func (l *log) has(line string) bool {
	for _, found := range l.all() {
		if found == line {
			return true
		}
	}
	return false
}

// informerRestart is a shared informer, in protobuf as controllers have it, while the agent is away.
func informerRestart(n *notes) error {
	made := config()
	made.ContentType = protobuf
	made.AcceptContentTypes = protobuf + ",application/json"
	narrow := func(options *meta.ListOptions) { options.LabelSelector = "app=lasting" }
	factory := informers.NewSharedInformerFactoryWithOptions(clients(made), 0,
		informers.WithNamespace(namespace), informers.WithTweakListOptions(narrow))
	shared := factory.Core().V1().ConfigMaps().Informer()
	gone := &log{}
	handler := cache.ResourceEventHandlerFuncs{DeleteFunc: func(object any) {
		if unseen, is := object.(cache.DeletedFinalStateUnknown); is {
			object = unseen.Obj
		}
		gone.add(object.(*core.ConfigMap).Name)
	}}
	if _, err := shared.AddEventHandler(handler); err != nil {
		return err
	}
	stop := make(chan struct{})
	defer close(stop)
	factory.Start(stop)
	known := func() map[string]string {
		all := map[string]string{}
		for _, object := range shared.GetStore().List() {
			found := object.(*core.ConfigMap)
			all[found.Name] = found.Data["sky"]
		}
		return all
	}
	if err := until("the first list", func() bool { return shared.HasSynced() && len(known()) == 3 }); err != nil {
		return err
	}
	if err := restarted(); err != nil {
		return err
	}
	last := func() bool { _, is := known()["last"]; return is }
	if err := until("what happened after the restart", last); err != nil {
		return err
	}
	err := until("the deletion", func() bool { return gone.has("goes") })
	n.note("known", known())
	told := gone.all()
	sort.Strings(told)
	n.note("told to be gone", told)
	return err
}

// restarted tells that the informer is in step, and returns when the agent is back.
func restarted() error {
	ready, _ := json.Marshal(map[string]bool{"ready": true})
	fmt.Println(string(ready))
	if !lines.Scan() {
		return errors.New("nobody says that the agent is back")
	}
	return nil
}

func candidate(within context.Context, name string, told *log) {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  meta.ObjectMeta{Name: "chair", Namespace: namespace},
		Client:     clients(config()).CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: name},
	}
	leaderelection.RunOrDie(within, leaderelection.LeaderElectionConfig{
		Lock: lock, ReleaseOnCancel: true,
		LeaseDuration: 4 * time.Second, RenewDeadline: 3 * time.Second, RetryPeriod: time.Second,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { told.add(name + " leads") },
			OnStoppedLeading: func() { told.add(name + " stops") },
		},
	})
}

// leaderElection has two candidates, of whom the second follows the first.
func leaderElection(n *notes) error {
	told := &log{}
	first, resign := context.WithCancel(ctx)
	second, end := context.WithCancel(ctx)
	defer end()
	defer resign()
	leases := clients(config()).CoordinationV1().Leases(namespace)
	go candidate(first, "one", told)
	if err := until("a leader", func() bool { return told.has("one leads") }); err != nil {
		return err
	}
	go candidate(second, "two", told)
	before, err := leases.Get(ctx, "chair", meta.GetOptions{})
	if err != nil {
		return err
	}
	renewed := func() bool {
		now, err := leases.Get(ctx, "chair", meta.GetOptions{})
		return err == nil && !now.Spec.RenewTime.Equal(before.Spec.RenewTime)
	}
	if err := until("a renewal", renewed); err != nil {
		return err
	}
	resign()
	if err := until("the next leader", func() bool { return told.has("two leads") }); err != nil {
		return err
	}
	n.note("told", told.all())
	lease, err := leases.Get(ctx, "chair", meta.GetOptions{})
	if err != nil {
		return err
	}
	n.note("lease", []any{*lease.Spec.HolderIdentity, *lease.Spec.LeaseDurationSeconds, *lease.Spec.LeaseTransitions})
	end()
	if err := until("the end", func() bool { return told.has("two stops") }); err != nil {
		return err
	}
	return leases.Delete(ctx, "chair", meta.DeleteOptions{})
}
