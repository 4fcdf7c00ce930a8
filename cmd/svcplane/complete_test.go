package main

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"svcplane/server"
	"svcplane/server/admin"
)

// offered is what a shell offers for words of which the last is being typed.
func offered(t *testing.T, words ...string) []string {
	t.Helper()
	code, out, errOut := invoke(t, append([]string{cobra.ShellCompNoDescRequestCmd}, words...)...)
	if code != exitYes {
		t.Errorf("%v: exit code %d, %s", words, code, errOut)
	}
	return strings.Fields(out)
}

func TestCompletion(t *testing.T) {
	mine, kubectls := completionLimit, kubectlCompletionLimit
	defer func() { completionLimit, kubectlCompletionLimit = mine, kubectls }()
	completionLimit, kubectlCompletionLimit = time.Minute, time.Minute // however busy the machine is
	dir := fakeServer(t, map[string]any{"GET /names": func(kind string) any {
		return map[string][]string{
			admin.NamesOfServices:   {"toad", "toad-svc", "web"},
			admin.NamesOfNamespaces: {"default", "shop"},
			admin.NamesOfPods:       {"client"},
			admin.NamesOfHosts:      {"shop.example.com"},
			admin.NamesOfDNS:        {"web.shop.svc.cluster.local"},
		}[kind]
	}})
	if _, err := server.ImageStore(dir).Alias("nginx:1", "svcplane/echo"); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{
		"proxy explain t":                   "toad toad-svc :4",
		"proxy explain shop/t":              "shop/toad shop/toad-svc :4",
		"proxy explain web x":               ":4",
		"proxy show w":                      "web :4",
		"proxy show -n ":                    "default shop :4",
		"proxy explain --from pod/":         "pod/client :4",
		"proxy switch ":                     "ebpf iptables :4",
		"ingress explain s":                 "shop.example.com/ :6",
		"ingress explain https://":          "https://shop.example.com/ :6",
		"ingress routes ":                   "shop.example.com :4",
		"dns query w":                       "web.shop.svc.cluster.local :4",
		"dns query web AA":                  "AAAA :4",
		"image rm ng":                       "nginx:1 :4",
		"image alias x svcplane/":           "svcplane/echo svcplane/host :4",
		"image import x ":                   "tar tgz gz zst tzst :8",
		"status -o ":                        "table json yaml :4",
		"server --proxy-mode ":              "auto ebpf iptables :4",
		"server --disable dns,":             "dns,ingress dns,node dns,proxy :4",
		"server --config ":                  "yaml yml :8",
		"server --node-name ":               ":4",
		"proxy sh":                          "show :4",
		"help proxy sh":                     "show :4",
		"kubectl rollo":                     "rollout :4",
		"kubectl --data-dir x config use-c": "use-context :4",
	} {
		words := strings.Split(typed, " ")
		if words[0] != "kubectl" && words[0] != "help" {
			words = slices.Insert(words, 0, "--data-dir", dir)
		}
		if got := strings.Join(offered(t, words...), " "); got != want {
			t.Errorf("%q: %s, want %s", typed, got, want)
		}
	}
	if got := offered(t, "--data-dir", t.TempDir(), "proxy", "explain", ""); !slices.Equal(got, []string{":4"}) {
		t.Errorf("without a server: %v", got)
	}
}

// TestCompletionDoesNotWait: a server that does not answer is given up.
func TestCompletionDoesNotWait(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", admin.SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan []string, 1)
	go func() { done <- offered(t, "--data-dir", dir, "proxy", "explain", "") }()
	select {
	case got := <-done:
		if !slices.Equal(got, []string{":4"}) {
			t.Error(got)
		}
	case <-ctx.Done():
		t.Fatal("it waits")
	}
}

// TestFlagsOfFilesOfferFiles: of no other flag are files the values.
func TestFlagsOfFilesOfferFiles(t *testing.T) {
	for command, names := range map[string][]string{"server": {"ingress-access-log", "cgroup", "data-dir"}, "install": {"root"}} {
		for _, name := range names {
			if got := offered(t, command, "--"+name, ""); slices.Equal(got, []string{":4"}) {
				t.Errorf("%s --%s offers no file", command, name)
			}
		}
	}
	everyCommand(newRoot(), func(c *cobra.Command) {
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if _, known := flagValues[f.Name]; known {
				if _, ok := c.GetFlagCompletionFunc(f.Name); !ok {
					t.Errorf("%s --%s offers none of its values", c.CommandPath(), f.Name)
				}
			}
		})
	})
}

func TestCompletionsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "a\nb\n", ":x"} {
		if got, directive := readCompletions(text); got != nil || directive != cobra.ShellCompDirectiveNoFileComp {
			t.Errorf("%q: %v %v", text, got, directive)
		}
	}
}
