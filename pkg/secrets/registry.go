package secrets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
)

// RegistryConfig says where credentials for registries come from.
type RegistryConfig struct {
	// AuthType and AuthData are ECS_ENGINE_AUTH_TYPE and ECS_ENGINE_AUTH_DATA of the
	// Amazon agent: type "docker" with {"registry": {"username": …, "password": …}}, or
	// type "dockercfg" with {"registry": {"auth": base64 of user:password}}. An empty
	// type means none.
	AuthType, AuthData string
	// DockerConfig is the path of Docker's config.json; "" or a file that does not exist
	// means none. See DockerConfigPath.
	DockerConfig string
	// HelperPath is where docker-credential-* programs are looked for, in the form of
	// PATH; "" means PATH itself.
	HelperPath string
}

// Registry finds the credentials for an image's registry. It may be used by many
// goroutines at once.
type Registry struct {
	fixed      map[string]entry
	file       string
	helperPath string
}

// NewRegistry checks what is fixed, so that a mistake in the configuration is told at
// start and not at the first pull. Docker's file is read anew by each Lookup, so that a
// `docker login` needs no restart.
func NewRegistry(c RegistryConfig) (*Registry, error) {
	r := &Registry{file: c.DockerConfig, helperPath: c.HelperPath}
	switch c.AuthType {
	case "":
		if c.AuthData != "" {
			return nil, errors.New("ECS_ENGINE_AUTH_DATA is set but ECS_ENGINE_AUTH_TYPE is not: set it to docker or dockercfg")
		}
		return r, nil
	case "docker", "dockercfg":
	default:
		return nil, fmt.Errorf("ECS_ENGINE_AUTH_TYPE: %q is unknown: use docker or dockercfg", c.AuthType)
	}
	auths := map[string]entry{}
	if err := decode([]byte(c.AuthData), &auths); err != nil {
		return nil, fmt.Errorf("ECS_ENGINE_AUTH_DATA: %w: it must be a JSON object from registry to credentials", err)
	}
	for host, e := range auths {
		if _, err := e.credentials(); err != nil {
			return nil, fmt.Errorf("ECS_ENGINE_AUTH_DATA: registry %q: %w", host, err)
		}
	}
	r.fixed = auths
	return r, nil
}

// DockerConfigPath is where Docker's clients look for their config.json: in the
// directory DOCKER_CONFIG, else in .docker of the home directory. "" when neither is known.
func DockerConfigPath(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".docker", "config.json")
	}
	return ""
}

// Lookup gives the credentials for pulling ref: those of ECS_ENGINE_AUTH_DATA, else of
// Docker's file, in which a helper of the registry's own goes before a common one, and
// that before what the file itself holds. None is not an error: the zero Credentials.
// An error is one worth a retry; it names the source and never what was in it.
//
// An entry may name a registry or a path in it ("ghcr.io/team"); the longest that ref
// lies under counts.
func (r *Registry) Lookup(ctx context.Context, ref string) (Credentials, error) {
	if strings.HasPrefix(ref, "oci-archive:") {
		return Credentials{}, nil
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Credentials{}, fmt.Errorf("image %q: %w", ref, err)
	}
	if e, ok := find(r.fixed, named.Name()); ok {
		return e.credentials()
	}
	return r.fromFile(ctx, named)
}

// configFile is what we read of Docker's config.json.
type configFile struct {
	Auths       map[string]entry  `json:"auths"`
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

func (r *Registry) fromFile(ctx context.Context, named reference.Named) (Credentials, error) {
	if r.file == "" {
		return Credentials{}, nil
	}
	b, err := os.ReadFile(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, nil
	}
	if err != nil {
		return Credentials{}, fmt.Errorf("registry credentials: %w", err)
	}
	var c configFile
	if err := decode(b, &c); err != nil {
		return Credentials{}, fmt.Errorf("registry credentials: %s: %w", r.file, err)
	}
	host := reference.Domain(named)
	if helper, ok := find(c.CredHelpers, host); ok {
		return r.ask(ctx, helper, host)
	}
	if c.CredsStore != "" {
		if got, err := r.ask(ctx, c.CredsStore, host); err != nil || !got.IsZero() {
			return got, err
		}
	}
	if e, ok := find(c.Auths, named.Name()); ok {
		got, err := e.credentials()
		if err != nil {
			return got, fmt.Errorf("registry credentials: %s: registry %q: %w", r.file, host, err)
		}
		return got, nil
	}
	return Credentials{}, nil
}

// entry is one registry in Docker's files.
type entry struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of user:password
	IdentityToken string `json:"identitytoken"`
}

func (e entry) credentials() (Credentials, error) {
	c := Credentials{Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken}
	if e.Auth == "" {
		return c, nil
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(e.Auth))
	if err != nil {
		return Credentials{}, errors.New("auth is not base64")
	}
	user, password, ok := strings.Cut(string(b), ":")
	if !ok || user == "" {
		return Credentials{}, errors.New("auth is not base64 of user:password")
	}
	// Old Docker clients padded with NUL.
	c.Username, c.Password = user, strings.Trim(password, "\x00")
	return c, nil
}

// find gives what is filed under the longest prefix of name (a registry and a path).
func find[T any](m map[string]T, name string) (found T, ok bool) {
	longest := -1
	for key, v := range m {
		k := canonical(key)
		if k != name && !strings.HasPrefix(name, k+"/") {
			continue
		}
		if len(k) > longest {
			longest, found, ok = len(k), v, true
		}
	}
	return found, ok
}

// canonical gives the registry (and path) that a key of Docker's files means: keys may
// be URLs, and Docker Hub has four names.
func canonical(key string) string {
	k := strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, path, _ := strings.Cut(k, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "docker.io":
		host = reference.Domain(dockerHub)
	}
	path = strings.Trim(path, "/")
	if path == "" || path == "v1" || path == "v2" {
		return host
	}
	return host + "/" + path
}

var dockerHub, _ = reference.ParseNormalizedNamed("docker.io/library/x")

// decode reads JSON. Its errors say where, never what: the text is full of secrets.
func decode(b []byte, into any) error {
	err := json.Unmarshal(b, into)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return fmt.Errorf("not valid JSON at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Errorf("a value of the wrong kind at byte %d", kind.Offset)
	}
	return errors.New("not valid JSON")
}
