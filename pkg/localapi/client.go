package localapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
)

// Client is the commands' end of the socket. It connects when it is asked something.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the agent at a socket; "" is DefaultSocket.
func NewClient(socket string) *Client {
	if socket == "" {
		socket = DefaultSocket
	}
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
	}}}
}

// Close gives back idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) get(ctx context.Context, path string, q url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, q, nil, out)
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, nil, in, out)
}

func (c *Client) call(ctx context.Context, method, path string, q url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.do(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &Error{CodeInternal, "the agent's answer cannot be read: " + err.Error()}
	}
	return nil
}

// do sends a request and returns a response of success. All failures are *Error, but the
// end of ctx.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body io.Reader) (*http.Response, error) {
	u := "http://ecsd" + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	var e Error
	if json.Unmarshal(raw, &e) != nil || e.Code == "" {
		e = Error{CodeInternal, fmt.Sprintf("the agent answered %s: %.200s", resp.Status, raw)}
	}
	return nil, &e
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return &Error{CodeUnavailable, "no agent at " + c.socket + ": start one (ecsd agent), or say where it is with --socket or ECSD_SOCKET"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{CodeDenied, "the socket " + c.socket + " may not be opened: run the command as root"}
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return &Error{CodeUnavailable, "no agent answers at " + c.socket + " (" + op.Err.Error() + "): see whether it runs, and its log"}
	}
	return &Error{CodeUnavailable, "the agent at " + c.socket + " did not answer: " + err.Error()}
}
