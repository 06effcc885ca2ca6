package introspect

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get200(t *testing.T, url string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestServeOnBothLoopbackAddresses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ls, err := Listen(ctx, []string{"127.0.0.1:0", "[::1]:0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- Serve(ctx, ls, Handler(testConfig()), nil) }()
	for _, l := range ls {
		host, _, _ := net.SplitHostPort(l.Addr().String())
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			t.Errorf("listens on %s, which is no loopback address", l.Addr())
		}
		if code, body := get200(t, "http://"+l.Addr().String()+"/healthz"); code != 200 || body != "ok\n" {
			t.Errorf("%s: %d %q", l.Addr(), code, body)
		}
	}
	if len(ls) == 2 && portOf(ls[0]) != portOf(ls[1]) {
		t.Errorf("127.0.0.1 and ::1 have different ports: %s, %s", ls[0].Addr(), ls[1].Addr())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", ls[0].Addr().String()); err == nil {
		t.Error("still listens after Serve has returned")
	}
}

func portOf(l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestConfiguredAddressIsItsOwnName: an operator who listens on another address asks it by
// that address, without configuring it as a name too.
func TestConfiguredAddressIsItsOwnName(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ls, err := Listen(ctx, []string{"127.0.0.2:0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- Serve(ctx, ls, Handler(testConfig()), nil) }()
	if code, body := get200(t, "http://"+ls[0].Addr().String()+"/healthz"); code != 200 {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get200(t, "http://"+ls[0].Addr().String()+"/healthz", func(r *http.Request) { r.Host = "127.0.0.3" }); code != 421 {
		t.Errorf("another address in the Host header: %d, want 421", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestListenRefusals(t *testing.T) {
	if ls, err := Listen(t.Context(), nil); err != nil || ls != nil {
		t.Errorf("Listen on nothing = %v, %v", ls, err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ls, err := Listen(t.Context(), []string{"127.0.0.1:0", taken.Addr().String()})
	if err == nil || ls != nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("Listen on a taken address = %v, %v", ls, err)
	}
	if _, err := Listen(t.Context(), []string{"51678"}); err == nil {
		t.Error("an address without a colon was accepted")
	}
}

// TestServeMetricsWithPassword runs the off-host listener with a web-config file: without
// the password nothing, with it /metrics and nothing else.
func TestServeMetricsWithPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	const users = "basic_auth_users:\n  prom: HASH\n"
	if err := os.WriteFile(file, []byte(strings.Replace(users, "HASH", hash(t, "sesame"), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ls, err := Listen(ctx, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- ServeMetrics(ctx, ls, MetricsHandler(prometheus.NewRegistry(), nil, nil), file, nil)
	}()
	url := "http://" + ls[0].Addr().String()
	password := func(r *http.Request) { r.SetBasicAuth("prom", "sesame") }
	if code, _ := get200(t, url+"/metrics"); code != 401 {
		t.Errorf("without password: %d", code)
	}
	if code, _ := get200(t, url+"/metrics", password); code != 200 {
		t.Errorf("with password: %d", code)
	}
	if code, _ := get200(t, url+"/v1/tasks", password); code != 404 {
		t.Errorf("/v1/tasks: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeMetricsRefusesABadWebConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(file, []byte("basic_auth: yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := ServeMetrics(t.Context(), nil, nil, file, nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
}

func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

// TestConnectionsAreLimited: who opens many connections and says nothing holds up others
// only until the header timeout, and costs no more than the limit.
func TestConnectionsAreLimited(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ls, err := Listen(ctx, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan struct{}, 2*maxConnections)
	done := make(chan error)
	go func() { done <- Serve(ctx, []net.Listener{counting{ls[0], accepted}}, Handler(testConfig()), nil) }()
	var idle []net.Conn
	for range maxConnections + 10 {
		c, err := net.Dial("tcp", ls[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	for range maxConnections {
		<-accepted
	}
	select {
	case <-accepted:
		t.Error("more connections than the limit were accepted")
	default:
	}
	for _, c := range idle {
		_ = c.Close()
	}
	if code, body := get200(t, "http://"+ls[0].Addr().String()+"/healthz"); code != 200 {
		t.Errorf("after the crowd: %d %q", code, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// counting tells of each connection that its listener accepts.
type counting struct {
	net.Listener
	accepted chan<- struct{}
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted <- struct{}{}
	}
	return conn, err
}
