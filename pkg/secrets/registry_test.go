package secrets

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// canary is in every secret of these tests, and must be in no text that comes out.
const canary = "c4n4ry-pa55"

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// file writes a config.json, and helpers beside it, and gives the configuration.
func file(t *testing.T, content string, helpers map[string]string) RegistryConfig {
	t.Helper()
	dir := t.TempDir()
	c := RegistryConfig{DockerConfig: filepath.Join(dir, "config.json"), HelperPath: dir}
	if err := os.WriteFile(c.DockerConfig, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range helpers {
		if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestLookup(t *testing.T) {
	user := Credentials{Username: "u", Password: canary}
	answer := `cat >/dev/null; echo '{"ServerURL":"x","Username":"u","Secret":"` + canary + `"}'`
	for name, c := range map[string]struct {
		conf RegistryConfig
		ref  string
		want Credentials
	}{
		"nothing":      {RegistryConfig{}, "nginx", Credentials{}},
		"no such file": {RegistryConfig{DockerConfig: "/nonexistent/config.json"}, "nginx", Credentials{}},
		"docker": {RegistryConfig{AuthType: "docker", AuthData: `{"https://index.docker.io/v1/":{"username":"u","password":"` + canary + `","email":"e"}}`},
			"nginx:1", user},
		"dockercfg": {RegistryConfig{AuthType: "dockercfg", AuthData: `{"reg.example:5000":{"auth":"` + b64("u:"+canary) + `","email":"e"}}`},
			"reg.example:5000/a/b@sha256:" + strings.Repeat("0", 64), user},
		"another registry": {RegistryConfig{AuthType: "docker", AuthData: `{"reg.example":{"username":"u","password":"` + canary + `"}}`},
			"reg.example.org/a", Credentials{}},
		"another port": {RegistryConfig{AuthType: "docker", AuthData: `{"reg.example:5000":{"username":"u","password":"` + canary + `"}}`},
			"reg.example/a", Credentials{}},
		"longest path": {file(t, `{"auths":{"ghcr.io":{"auth":"`+b64("x:y")+`"},"ghcr.io/team":{"auth":"`+b64("u:"+canary)+`"}}}`, nil),
			"ghcr.io/team/app", user},
		"not under the path": {file(t, `{"auths":{"ghcr.io/team":{"auth":"`+b64("u:"+canary)+`"}}}`, nil), "ghcr.io/teams/app", Credentials{}},
		"config.json":        {file(t, `{"auths":{"https://reg.example/v2/":{"auth":"`+b64("u:"+canary)+`"}},"HttpHeaders":{}}`, nil), "reg.example/a", user},
		"identity token":     {file(t, `{"auths":{"reg.example":{"identitytoken":"`+canary+`"}}}`, nil), "reg.example/a", Credentials{IdentityToken: canary}},
		"colon in password":  {file(t, `{"auths":{"reg.example":{"auth":"`+b64("u:a:b")+`"}}}`, nil), "reg.example/a", Credentials{Username: "u", Password: "a:b"}},
		"archive":            {file(t, `not json`, nil), "oci-archive:/x.tar", Credentials{}},
		"ECS before Docker": {RegistryConfig{AuthType: "docker", AuthData: `{"reg.example":{"username":"u","password":"` + canary + `"}}`,
			DockerConfig: file(t, `not json`, nil).DockerConfig}, "reg.example/a", user},
		"helper of the registry": {file(t, `{"credHelpers":{"reg.example":"own"},"credsStore":"fails"}`, map[string]string{"own": answer, "fails": "exit 3"}), "reg.example/a", user},
		"common helper":          {file(t, `{"credsStore":"all"}`, map[string]string{"all": answer}), "reg.example/a", user},
		"helper gets a token": {file(t, `{"credsStore":"all"}`, map[string]string{"all": `echo '{"Username":"<token>","Secret":"` + canary + `"}'`}),
			"reg.example/a", Credentials{IdentityToken: canary}},
		"helper has none, the file has": {file(t, `{"credsStore":"all","auths":{"reg.example":{"auth":"`+b64("u:"+canary)+`"}}}`,
			map[string]string{"all": "echo credentials not found in native keychain; exit 1"}), "reg.example/a", user},
		"helper is told Docker Hub's old name": {file(t, `{"credHelpers":{"docker.io":"own"}}`,
			map[string]string{"own": `read host; [ "$host" = https://index.docker.io/v1/ ] && ` + answer}), "nginx", user},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewRegistry(c.conf)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Lookup(t.Context(), c.ref)
			if err != nil || got != c.want {
				t.Errorf("got user %q and the right secret: %v, error %v", got.Username, got.Password == c.want.Password, err)
			}
		})
	}
}

// Whatever goes wrong, the error says where, and none of the secrets.
func TestErrorsHoldNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		conf RegistryConfig
		want string
	}{
		"unknown type":     {RegistryConfig{AuthType: "basic", AuthData: canary}, "ECS_ENGINE_AUTH_TYPE"},
		"no type":          {RegistryConfig{AuthData: canary}, "ECS_ENGINE_AUTH_TYPE"},
		"no JSON":          {RegistryConfig{AuthType: "docker", AuthData: canary}, "ECS_ENGINE_AUTH_DATA"},
		"wrong kind":       {RegistryConfig{AuthType: "docker", AuthData: `{"r":{"password":["` + canary + `"]}}`}, "ECS_ENGINE_AUTH_DATA"},
		"number":           {RegistryConfig{AuthType: "docker", AuthData: `{"r":{"password":123454321}}`}, "wrong kind"},
		"no base64":        {RegistryConfig{AuthType: "dockercfg", AuthData: `{"r":{"auth":"` + canary + `!"}}`}, `registry "r"`},
		"no colon":         {RegistryConfig{AuthType: "dockercfg", AuthData: `{"r":{"auth":"` + b64(canary) + `"}}`}, "user:password"},
		"broken file":      {file(t, `{"auths":{"reg.example":{"auth":"`+canary+`"`, nil), "config.json"},
		"broken auth":      {file(t, `{"auths":{"reg.example":{"auth":"`+canary+`"}}}`, nil), "config.json"},
		"a directory":      {RegistryConfig{DockerConfig: "/"}, "directory"},
		"no helper":        {file(t, `{"credsStore":"gone"}`, nil), "install it"},
		"helper's name":    {file(t, `{"credsStore":"../../bin/sh"}`, nil), "not valid"},
		"helper fails":     {file(t, `{"credsStore":"x"}`, map[string]string{"x": "echo no login for you; exit 1"}), "no login for you"},
		"helper babbles":   {file(t, `{"credsStore":"x"}`, map[string]string{"x": `echo '{"Secret":"` + canary + `"}'; exit 1`}), "exit status 1"},
		"helper's rubbish": {file(t, `{"credsStore":"x"}`, map[string]string{"x": "echo " + canary}), "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewRegistry(c.conf)
			if err == nil {
				_, err = r.Lookup(t.Context(), "reg.example/a")
			}
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "123454321") {
				t.Errorf("the error holds the secret: %v", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
		})
	}
}

func TestHungHelperIsGivenUp(t *testing.T) {
	r, err := NewRegistry(file(t, `{"credsStore":"x"}`, map[string]string{"x": "exec sleep 1000"}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Lookup(ctx, "reg.example/a"); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("error %v", err)
	}
}

// Every way to print them shows none of them.
func TestCredentialsPrintNothing(t *testing.T) {
	c := Credentials{Username: canary, Password: canary, IdentityToken: canary}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
		fmt.Fprintf(&out, verb+" "+verb+"\n", c, &c)
		fmt.Fprintf(&out, verb+"\n", struct{ C Credentials }{c})
		fmt.Fprintf(&out, verb+"\n", []Credentials{c})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "c", c, "p", &c)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "c", c, "in", struct{ C Credentials }{c})
	if err := json.NewEncoder(&out).Encode(map[string]any{"c": c, "p": &c}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&out, fmt.Errorf("with %v and %w", c, os.ErrNotExist))
	text := strings.ToLower(out.String())
	if strings.Contains(text, canary) || strings.Contains(text, fmt.Sprintf("%x", canary)) {
		t.Errorf("printed:\n%s", out.String())
	}
	if !strings.Contains(text, redacted) {
		t.Errorf("nothing was redacted:\n%s", out.String())
	}
	if got := fmt.Sprint(Credentials{}); got != "anonymous" {
		t.Errorf("zero value prints %q", got)
	}
}

func TestDockerConfigPath(t *testing.T) {
	env := map[string]string{"HOME": "/home/u"}
	get := func(k string) string { return env[k] }
	if got := DockerConfigPath(get); got != "/home/u/.docker/config.json" {
		t.Error(got)
	}
	env["DOCKER_CONFIG"] = "/etc/docker-client"
	if got := DockerConfigPath(get); got != "/etc/docker-client/config.json" {
		t.Error(got)
	}
	clear(env)
	if got := DockerConfigPath(get); got != "" {
		t.Error(got)
	}
}
