package pull

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"sigs.k8s.io/yaml"
)

// Registries says where images of which registry come from, in the form of k3s' registries.yaml
// (https://docs.k3s.io/installation/private-registry).
type Registries struct {
	Mirrors map[string]Mirror         `json:"mirrors,omitempty"` // by host, as "docker.io"; "*" for every other
	Configs map[string]RegistryConfig `json:"configs,omitempty"` // by host of an endpoint; "*" for every other
	Auths   map[string]AuthConfig     `json:"auths,omitempty"`   // the same as configs' auth; k3s has it from before
}

// Mirror says where to ask before the registry itself.
type Mirror struct {
	Endpoints []string          `json:"endpoint,omitempty"` // URLs; without a scheme https
	Rewrites  map[string]string `json:"rewrite,omitempty"`  // regular expressions of repositories and what takes their place ($1)
}

// RegistryConfig says how to speak with a host.
type RegistryConfig struct {
	Auth *AuthConfig `json:"auth,omitempty"`
	TLS  *TLSConfig  `json:"tls,omitempty"`
}

// AuthConfig are credentials.
type AuthConfig struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"` // base64 of username:password
	IdentityToken string `json:"identity_token,omitempty"`
}

// TLSConfig are paths of PEM files.
type TLSConfig struct {
	CAFile             string `json:"ca_file,omitempty"`
	CertFile           string `json:"cert_file,omitempty"`
	KeyFile            string `json:"key_file,omitempty"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify,omitempty"`
}

// ReadRegistries reads a file; one that is not there says nothing. Unknown keys are errors.
func ReadRegistries(path string) (*Registries, error) {
	r := &Registries{}
	if path == "" {
		return r, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		if err = yaml.UnmarshalStrict(text, r); err == nil {
			err = r.check()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("registries file %s: %w: correct it (https://docs.k3s.io/installation/private-registry has its form)", path, err)
	}
	return r, nil
}

func (r *Registries) check() error {
	for _, host := range slices.Sorted(maps.Keys(r.Mirrors)) {
		for _, text := range r.Mirrors[host].Endpoints {
			if _, err := endpointURL(text); err != nil {
				return fmt.Errorf("mirrors.%s.endpoint: %w", host, err)
			}
		}
		for pattern := range r.Mirrors[host].Rewrites {
			if _, err := regexp.Compile(pattern); err != nil {
				return fmt.Errorf("mirrors.%s.rewrite: %w", host, err)
			}
		}
	}
	for host, c := range r.Configs {
		if c.TLS != nil && (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
			return fmt.Errorf("configs.%s.tls: cert_file and key_file belong together", host)
		}
	}
	return nil
}

func endpointURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%q must be a URL like https://registry.example:5000", text)
	}
	return u, nil
}

// endpoint is one place where an image may be fetched.
type endpoint struct {
	url    *url.URL
	ref    name.Reference // as it is called there
	config RegistryConfig
	own    bool // it is the registry that the reference names
}

// endpoints are the places for an image, in the order in which they are asked: its mirrors, and last the registry itself.
func (r *Registries) endpoints(ref name.Reference) ([]endpoint, error) {
	host := ref.Context().RegistryStr()
	short := host
	if host == name.DefaultRegistry {
		short = "docker.io"
	}
	mirror, ok := r.Mirrors[short]
	if !ok {
		mirror = r.Mirrors["*"]
	}
	var all []endpoint
	for _, text := range mirror.Endpoints {
		u, err := endpointURL(text)
		if err != nil {
			return nil, err
		}
		repository, err := mirror.rewrite(ref.Context().RepositoryStr())
		if err != nil {
			return nil, err
		}
		e, err := r.endpoint(u, repository, ref)
		if err != nil {
			return nil, err
		}
		e.own = u.Host == host
		all = append(all, e)
	}
	if slices.ContainsFunc(all, func(e endpoint) bool { return e.own }) {
		return all, nil // it has its place in the order, and its scheme
	}
	scheme := "https"
	if loopback(host) {
		scheme = "http" // ggcr and others ask there without TLS, too
	}
	e, err := r.endpoint(&url.URL{Scheme: scheme, Host: host}, ref.Context().RepositoryStr(), ref)
	if err != nil {
		return nil, err
	}
	e.own = true
	return append(all, e), nil
}

func (r *Registries) endpoint(u *url.URL, repository string, ref name.Reference) (endpoint, error) {
	var options []name.Option
	if u.Scheme == "http" {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(u.Host+"/"+repository, options...)
	if err != nil {
		return endpoint{}, err
	}
	e := endpoint{url: u, config: r.configOf(u.Host)}
	if _, digest := ref.(name.Digest); digest {
		e.ref = repo.Digest(ref.Identifier())
	} else {
		e.ref = repo.Tag(ref.Identifier())
	}
	return e, nil
}

func (r *Registries) configOf(host string) RegistryConfig {
	c, ok := r.Configs[host]
	if host == name.DefaultRegistry && !ok {
		c, ok = r.Configs["docker.io"]
	}
	if !ok {
		c = r.Configs["*"]
	}
	if auth, ok := r.Auths[host]; ok && c.Auth == nil {
		c.Auth = &auth
	}
	return c
}

// rewrite is what a repository is called at a mirror: by the first pattern that matches, in the order of their text.
func (m Mirror) rewrite(repository string) (string, error) {
	for _, pattern := range slices.Sorted(maps.Keys(m.Rewrites)) {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return "", err
		}
		if re.MatchString(repository) {
			return re.ReplaceAllString(repository, m.Rewrites[pattern]), nil
		}
	}
	return repository, nil
}

func loopback(host string) bool {
	bare := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		bare = h
	}
	ip := net.ParseIP(strings.Trim(bare, "[]"))
	return bare == "localhost" || ip != nil && ip.IsLoopback()
}

// authenticator finds the credentials for an endpoint: those of the pod are for the registry that its image names.
func (e *endpoint) authenticator(pod *authn.AuthConfig) (authn.Authenticator, error) {
	switch a := e.config.Auth; {
	case pod != nil && e.own:
		return authn.FromConfig(*pod), nil
	case a != nil:
		c := authn.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken}
		if a.Auth != "" {
			plain, err := base64.StdEncoding.DecodeString(a.Auth)
			user, password, found := strings.Cut(string(plain), ":")
			if err != nil || !found {
				return nil, fmt.Errorf("configs.%s.auth.auth must be the base64 of username:password", e.url.Host)
			}
			c.Username, c.Password = user, password
		}
		return authn.FromConfig(c), nil
	}
	return authn.DefaultKeychain.Resolve(e.ref.Context().Registry) // of ~/.docker/config.json, with its helpers; else nobody
}

// transport speaks with an endpoint, below authentication. Whoever made it closes its idle connections.
func (e *endpoint) transport() (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = stallAfter
	t.MaxIdleConnsPerHost = 8
	t.DisableCompression = true // blobs are what they are, whatever a header says
	t.IdleConnTimeout = 30 * time.Second
	if e.config.TLS == nil {
		return t, nil
	}
	c := &tls.Config{InsecureSkipVerify: e.config.TLS.InsecureSkipVerify}
	if path := e.config.TLS.CAFile; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("configs.%s.tls.ca_file: %w", e.url.Host, err)
		}
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("configs.%s.tls.ca_file: %s has no certificate", e.url.Host, path)
		}
	}
	if e.config.TLS.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(e.config.TLS.CertFile, e.config.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("configs.%s.tls: %w", e.url.Host, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	t.TLSClientConfig = c
	return t, nil
}

// atPath has requests for /v2/ go where the endpoint has it, and refuses to speak with the registry without TLS unless its
// URL says so.
type atPath struct {
	endpoint *endpoint
	inner    http.RoundTripper
}

func (a atPath) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != a.endpoint.url.Host {
		return bounded(a.inner.RoundTrip(r)) // it was sent on, to a blob store or for a token
	}
	if r.URL.Scheme == "http" && a.endpoint.url.Scheme != "http" {
		return nil, fmt.Errorf("%s is asked over https only: an endpoint http://%s in the registries file allows plain HTTP", r.URL.Host, r.URL.Host)
	}
	path := strings.TrimSuffix(a.endpoint.url.Path, "/")
	if path == "" || path == "/v2" {
		return bounded(a.inner.RoundTrip(r))
	}
	next := r.Clone(r.Context())
	next.URL.Path, next.URL.RawPath = path+strings.TrimPrefix(r.URL.Path, "/v2"), ""
	return bounded(a.inner.RoundTrip(next))
}

// maxAnswer bounds what is read into memory of an answer: manifests, tokens, errors. The specification asks registries to take
// manifests of 4 MiB.
const maxAnswer = 8 << 20

// bounded ends an answer that is not a blob when it gets too long.
func bounded(resp *http.Response, err error) (*http.Response, error) {
	if err != nil || strings.Contains(resp.Request.URL.Path, "/blobs/") && resp.StatusCode < 300 {
		return resp, err
	}
	resp.Body = &boundedBody{resp.Body, maxAnswer}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	return n, err
}
