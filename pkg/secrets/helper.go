package secrets

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// helperTime is how long a credential helper may take. They ask cloud APIs and keychains.
const helperTime = 30 * time.Second

var helperName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// ask runs docker-credential-<helper> get. The protocol: the registry on standard input;
// on standard output {"Username", "Secret"}, or, with a status other than 0, a message.
// The user "<token>" means that the secret is an identity token.
func (r *Registry) ask(ctx context.Context, helper, host string) (Credentials, error) {
	fail := func(err error) (Credentials, error) {
		return Credentials{}, fmt.Errorf("registry credentials: docker-credential-%s get %s: %w", helper, host, err)
	}
	if !helperName.MatchString(helper) {
		return Credentials{}, fmt.Errorf("registry credentials: %s: the credential helper's name %q is not valid", r.file, helper)
	}
	program, err := r.program("docker-credential-" + helper)
	if err != nil {
		return fail(fmt.Errorf("%w: install it, or take it out of %s", err, r.file))
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	server := host
	if host == reference.Domain(dockerHub) {
		server = "https://index.docker.io/v1/" // what docker login files it under
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second // a child of it that keeps the pipe open does not keep us
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fail(fmt.Errorf("no answer: %w", ctx.Err()))
		}
		said := strings.TrimSpace(out.String())
		if strings.Contains(said, "credentials not found") {
			return Credentials{}, nil
		}
		if strings.HasPrefix(said, "{") || said == "" {
			return fail(err) // whatever that is, it is not a message
		}
		return fail(fmt.Errorf("%w: %.200s", err, said))
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return fail(errors.New("the answer is not JSON"))
	}
	if answer.Username == "<token>" {
		return Credentials{IdentityToken: answer.Secret}, nil
	}
	return Credentials{Username: answer.Username, Password: answer.Secret}, nil
}

func (r *Registry) program(name string) (string, error) {
	if r.helperPath == "" {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(r.helperPath) {
		p := filepath.Join(dir, name)
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", exec.ErrNotFound
}
