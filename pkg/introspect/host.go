package introspect

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// checkHost refuses requests whose Host header names somebody else. That is how a web
// page reaches a loopback port: its name is made to resolve to 127.0.0.1, and the browser
// then takes the port for the page's own. An address in the header is harmless when it is
// the very one that was connected to.
func checkHost(names []string, next http.Handler) http.Handler {
	allowed := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	for _, n := range names {
		allowed[strings.ToLower(strings.Trim(n, "[]"))] = true
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := hostOnly(r.Host)
		if !allowed[host] && !isLocalAddr(host, r) {
			harden(w.Header())
			http.Error(w, "the Host header names neither this machine's loopback nor a configured name: ask for http://localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hostOnly is the header's host without port, brackets, case and final dot.
func hostOnly(h string) string {
	if host, _, err := net.SplitHostPort(h); err == nil {
		h = host
	}
	h = strings.TrimSuffix(strings.TrimPrefix(h, "["), "]")
	return strings.ToLower(strings.TrimSuffix(h, "."))
}

func isLocalAddr(host string, r *http.Request) bool {
	want, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	have, err := netip.ParseAddrPort(local.String())
	return err == nil && have.Addr().Unmap() == want.Unmap()
}
