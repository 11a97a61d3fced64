// Command informer runs client-go's shared informer against the cluster of $KUBECONFIG, cuts its watch, lets the
// server forget what happened meanwhile, and prints as JSON lines what went over the wire and what the informer made
// of it. It asserts nothing: whoever starts it reads the lines.
//
// Whether the informer lists or streams its first state is client-go's own switch, KUBE_FEATURE_WatchListClient.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const (
	namespace = "default"
	// More changes than the server remembers of one kind.
	forgotten = 1100
	deadline  = 60 * time.Second
)

var output sync.Mutex

// say prints one JSON line.
func say(kind string, fields map[string]any) {
	output.Lock()
	defer output.Unlock()
	if fields == nil {
		fields = map[string]any{}
	}
	fields["say"] = kind
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := run(ctx); err != nil {
		say("failed", map[string]any{"error": err.Error()})
		os.Exit(1)
	}
	say("done", nil)
}

func run(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 10_000, 10_000
	// Writes go another way than the informer's requests, which can be cut.
	direct, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	line := newLine()
	config.Wrap(line.wrap)
	watched, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	maps := direct.CoreV1().ConfigMaps(namespace)

	if err := create(ctx, direct, "before"); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(watched, 0, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps().Informer()
	seen := newSeen()
	if _, err := informer.AddEventHandler(seen.handler()); err != nil {
		return err
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return fmt.Errorf("the informer never synced")
	}
	say("synced", map[string]any{"names": informer.GetStore().ListKeys()})
	if err := seen.await(ctx, "add before"); err != nil {
		return err
	}

	// While the watch runs.
	if err := create(ctx, direct, "live"); err != nil {
		return err
	}
	if err := change(ctx, direct, "live", 1); err != nil {
		return err
	}
	if err := create(ctx, direct, "doomed"); err != nil {
		return err
	}
	for _, event := range []string{"add live", "update live", "add doomed"} {
		if err := seen.await(ctx, event); err != nil {
			return err
		}
	}
	if err := maps.Delete(ctx, "live", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := seen.await(ctx, "delete live"); err != nil {
		return err
	}

	// While the watch is cut, so much happens that the server no longer knows what.
	line.cut()
	say("cut", nil)
	if err := maps.Delete(ctx, "doomed", metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := create(ctx, direct, "missed"); err != nil {
		return err
	}
	for round := range forgotten {
		if err := change(ctx, direct, "before", round); err != nil {
			return err
		}
	}
	say("mended", nil)
	line.mend()
	for _, event := range []string{"add missed", "delete doomed"} {
		if err := seen.await(ctx, event); err != nil {
			return err
		}
	}
	if err := create(ctx, direct, "after"); err != nil {
		return err
	}
	if err := seen.await(ctx, "add after"); err != nil {
		return err
	}
	say("store", map[string]any{"names": informer.GetStore().ListKeys()})
	if err := short(ctx, watched); err != nil {
		return err
	}
	return ancient(ctx, direct)
}

// short watches until the server ends it, which it does with a bookmark: where to go on.
func short(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	list, err := maps.List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return err
	}
	seconds := int64(1)
	watch, err := maps.Watch(ctx, metav1.ListOptions{
		ResourceVersion:     list.ResourceVersion,
		AllowWatchBookmarks: true,
		TimeoutSeconds:      &seconds,
	})
	if err != nil {
		return err
	}
	defer watch.Stop()
	kinds := []string{}
	for event := range watch.ResultChan() {
		kinds = append(kinds, string(event.Type))
	}
	say("short", map[string]any{"events": kinds, "page": len(list.Items), "more": list.Continue != ""})
	return ctx.Err()
}

// ancient asks for a past that the server has forgotten, as a client does that slept.
func ancient(ctx context.Context, client kubernetes.Interface) error {
	maps := client.CoreV1().ConfigMaps(namespace)
	_, err := maps.List(ctx, metav1.ListOptions{
		ResourceVersion:      "1",
		ResourceVersionMatch: metav1.ResourceVersionMatchExact,
	})
	sayRefusal("list", err)
	watch, err := maps.Watch(ctx, metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		sayRefusal("watch", err)
		return nil
	}
	defer watch.Stop()
	select {
	case event := <-watch.ResultChan():
		sayRefusal("watch", apierrors.FromObject(event.Object))
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer to an ancient watch")
	}
}

func sayRefusal(call string, err error) {
	say("ancient", map[string]any{
		"call":    call,
		"expired": apierrors.IsResourceExpired(err) || apierrors.IsGone(err),
		"error":   fmt.Sprint(err),
	})
}

func create(ctx context.Context, client kubernetes.Interface, name string) error {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := client.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{})
	return err
}

func change(ctx context.Context, client kubernetes.Interface, name string, round int) error {
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Data:       map[string]string{"round": fmt.Sprint(round)},
	}
	_, err := client.CoreV1().ConfigMaps(namespace).Update(ctx, object, metav1.UpdateOptions{})
	return err
}
