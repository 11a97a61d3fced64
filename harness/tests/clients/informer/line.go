package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"sync"
)

// line is the informer's way to the server. It reports every request and every event of note, and can be cut: running
// watches then end, and new ones wait until it is mended.
type line struct {
	lock    sync.Mutex
	open    chan struct{}
	broken  chan struct{}
	running sync.WaitGroup
}

func newLine() *line {
	open := make(chan struct{})
	close(open)
	return &line{open: open, broken: make(chan struct{})}
}

func (l *line) cut() {
	l.lock.Lock()
	l.open = make(chan struct{})
	close(l.broken)
	l.lock.Unlock()
	l.running.Wait()
}

func (l *line) mend() {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.broken = make(chan struct{})
	close(l.open)
}

func (l *line) wrap(next http.RoundTripper) http.RoundTripper {
	return trip(func(request *http.Request) (*http.Response, error) {
		l.lock.Lock()
		open := l.open
		l.lock.Unlock()
		select {
		case <-open:
		case <-request.Context().Done():
			return nil, request.Context().Err()
		}
		query := request.URL.Query()
		verb := "list"
		if query.Get("watch") != "" {
			verb = "watch"
		}
		response, err := next.RoundTrip(request)
		if err != nil {
			return response, err
		}
		say("request", map[string]any{
			"verb":              verb,
			"resourceVersion":   query.Get("resourceVersion"),
			"match":             query.Get("resourceVersionMatch"),
			"sendInitialEvents": query.Get("sendInitialEvents"),
			"bookmarks":         query.Get("allowWatchBookmarks"),
			"status":            response.StatusCode,
		})
		if verb == "watch" && response.StatusCode == http.StatusOK {
			response.Body = l.tap(response.Body)
		}
		return response, nil
	})
}

// tap passes a watch on, event by event, until the line is cut.
func (l *line) tap(body io.ReadCloser) io.ReadCloser {
	l.lock.Lock()
	broken := l.broken
	l.running.Add(1)
	l.lock.Unlock()
	reader, writer := io.Pipe()
	over := make(chan struct{})
	go func() {
		select {
		case <-broken:
		case <-over:
		}
		body.Close()
	}()
	go func() {
		defer l.running.Done()
		defer close(over)
		lines := bufio.NewReader(body)
		for {
			text, err := lines.ReadBytes('\n')
			if err != nil {
				// As when a proxy between the two goes away in order.
				writer.CloseWithError(io.EOF)
				return
			}
			report(text)
			if _, err := writer.Write(text); err != nil {
				return
			}
		}
	}()
	return tapped{reader, body}
}

func report(text []byte) {
	var event struct {
		Type   string
		Object struct {
			Code     int
			Reason   string
			Metadata struct {
				ResourceVersion string
				Annotations     map[string]string
			}
		}
	}
	if json.Unmarshal(text, &event) != nil {
		say("unreadable", map[string]any{"text": string(text)})
		return
	}
	switch event.Type {
	case "BOOKMARK":
		say("bookmark", map[string]any{
			"resourceVersion":  event.Object.Metadata.ResourceVersion,
			"initialEventsEnd": event.Object.Metadata.Annotations["k8s.io/initial-events-end"],
		})
	case "ERROR":
		say("error", map[string]any{"code": event.Object.Code, "reason": event.Object.Reason})
	}
}

type tapped struct {
	io.Reader
	body io.Closer
}

func (t tapped) Close() error {
	// The reading side goes first, so that nobody writes to it for ever.
	t.Reader.(*io.PipeReader).Close()
	return t.body.Close()
}

type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(request *http.Request) (*http.Response, error) {
	return t(request)
}
