package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ecsd/pkg/reconcile"
	"ecsd/pkg/spec"
)

// DefaultSocket is where an agent that is told nothing else listens.
const DefaultSocket = "/run/ecsd/agent.sock"

const (
	socketMode      = 0o660
	maxBody         = 64 << 10
	shutdownTimeout = 2 * time.Second
)

// Config is what the agent gives its server. The functions hand out values that nobody
// changes afterwards, are quick, and may be called from several goroutines at once. A nil
// one that lists means: there is none; a nil one that acts refuses.
type Config struct {
	Socket string // path; "" is DefaultSocket

	Info     func() Info
	Views    func() []reconcile.View
	History  func() []spec.TaskStatus // ended tasks still remembered
	Services func() []spec.ServiceStatus
	Files    func() []ManifestFile
	Events   *Events // nil: an empty ring

	// LogFile is the path of the newest file of a container's log, see package logs.
	LogFile func(task, container string) (string, error)

	StopTask       func(id, reason string) error // marks it; does not wait until it has stopped
	RestartService func(name string) error       // a new deployment of what it has
	// Sync returns when the manifests, as they are now, have been read and taken over.
	Sync func(ctx context.Context) error

	// Instrument, when not nil, wraps each operation to count its requests. Its name is
	// the operation's path behind "local", "local/v1/tasks/{task}".
	Instrument func(operation string, h http.Handler) http.Handler
	Log        *slog.Logger // audit records too; nil discards
}

// Server is the agent's end of the socket.
type Server struct {
	c   Config
	uid int // of the agent
}

// New makes a server; Run starts it.
func New(c Config) *Server {
	if c.Socket == "" {
		c.Socket = DefaultSocket
	}
	if c.Events == nil {
		c.Events = NewEvents(nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{c: c, uid: agentUID()}
}

// operation is one entry of the API.
type operation struct {
	pattern string // for http.ServeMux
	name    string // a verb phrase, for audit, metrics and refusals
	acts    bool
	serve   func(s *Server, w http.ResponseWriter, r *http.Request) error
}

// operations is the whole API.
func operations() []operation {
	return []operation{
		infoOperation,
		listTasksOperation,
		describeTaskOperation,
		listServicesOperation,
		listManifestsOperation,
		eventsOperation,
		logsOperation,
		stopTaskOperation,
		restartServiceOperation,
		syncOperation,
	}
}

// Run listens on the socket and serves until ctx ends; then streams end, the socket is
// removed, and it returns nil. A socket that a dead agent left behind is replaced; one on
// which somebody answers is an error.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(ctx, s.c.Socket)
	if err != nil {
		return err
	}
	return s.serveOn(ctx, l)
}

func (s *Server) serveOn(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if srv.Shutdown(stop) != nil {
			_ = srv.Close()
		}
		err = <-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", s.c.Socket, err)
}

func listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if fi, err := os.Lstat(path); err == nil {
		if fi.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("socket %s: a file that is no socket is in its place: remove it, or choose another path with --socket", path)
		}
		var d net.Dialer
		if c, err := d.DialContext(ctx, "unix", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("socket %s: another agent answers there: stop it, or choose another path with --socket", path)
		} else if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	// Until here the umask lets nobody but the owner connect: a connection needs write
	// permission.
	if err := os.Chmod(path, socketMode); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return l, nil
}

// Handler is the API without the socket. Requests that did not come by Run's socket have
// no credentials and so may only look.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, op := range operations() {
		var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(op, w, r) })
		if s.c.Instrument != nil {
			_, path, _ := strings.Cut(op.pattern, " ")
			h = s.c.Instrument("local"+path, h)
		}
		mux.Handle(op.pattern, h)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &Error{CodeNotFound, "this agent has no " + r.Method + " " + r.URL.Path + ": command and agent may be of different versions (see ecsd version)"})
	})
	return mux
}

// serve checks who asks, does the operation, and writes down what acts.
func (s *Server) serve(op operation, w http.ResponseWriter, r *http.Request) {
	peer, _ := r.Context().Value(peerKey{}).(Peer)
	err := authorize(peer, s.uid, op.name, op.acts)
	if err == nil {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		err = op.serve(s, w, r)
	}
	if op.acts {
		s.audit(r.Context(), op, r, peer, err)
	}
	if err != nil {
		writeError(w, asError(err))
	}
}

func (s *Server) audit(ctx context.Context, op operation, r *http.Request, p Peer, err error) {
	level, outcome := slog.LevelInfo, "done"
	attrs := []slog.Attr{
		slog.String("operation", op.name),
		slog.String("path", r.URL.Path),
		slog.Uint64("uid", uint64(p.UID)),
		slog.Int("pid", int(p.PID)),
	}
	if err != nil {
		level, outcome = slog.LevelWarn, CodeOf(err)
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.c.Log.LogAttrs(ctx, level, "audit: local api", append(attrs, slog.String("outcome", outcome))...)
}

// answer makes an operation of a function that gives one JSON value.
func answer(f func(s *Server, r *http.Request) (any, error)) func(*Server, http.ResponseWriter, *http.Request) error {
	return func(s *Server, w http.ResponseWriter, r *http.Request) error {
		v, err := f(s, r)
		if err != nil {
			return err
		}
		body, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode the answer: %w", err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
		return nil
	}
}

func writeError(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	code, ok := statusOf[e.Code]
	if !ok {
		code = http.StatusInternalServerError
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(e)
}

// readBody decodes a request's JSON body; an empty one leaves v as it is.
func readBody(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return &Error{CodeInvalid, "request body: " + err.Error()}
	}
	return nil
}
