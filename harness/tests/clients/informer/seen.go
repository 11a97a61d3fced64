package main

import (
	"context"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"
)

// seen remembers what the informer told its handlers, and lets others wait for it.
type seen struct {
	lock   sync.Mutex
	events map[string]bool
	news   chan struct{}
}

func newSeen() *seen {
	return &seen{events: map[string]bool{}, news: make(chan struct{})}
}

func (s *seen) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(object any) { s.note("add", object) },
		UpdateFunc: func(_, object any) { s.note("update", object) },
		DeleteFunc: func(object any) {
			if lost, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = lost.Obj
			}
			s.note("delete", object)
		},
	}
}

func (s *seen) note(what string, object any) {
	event := what + " " + object.(*corev1.ConfigMap).Name
	s.lock.Lock()
	defer s.lock.Unlock()
	if !s.events[event] {
		say("event", map[string]any{"event": event})
	}
	s.events[event] = true
	close(s.news)
	s.news = make(chan struct{})
}

func (s *seen) await(ctx context.Context, event string) error {
	for {
		s.lock.Lock()
		done, news := s.events[event], s.news
		s.lock.Unlock()
		if done {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("the informer never told of %q", event)
		}
	}
}
