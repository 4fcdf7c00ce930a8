package main

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"svcplane/apiserver/hostimages"
	"svcplane/printer"
	"svcplane/proxy/ebpf"
	"svcplane/server"
	"svcplane/server/admin"
)

// How long a shell waits for what it may offer; kubectl asks more than one question.
var (
	completionLimit        = time.Second
	kubectlCompletionLimit = 3 * time.Second
)

// flagNamespace is the flag of every command that takes names of one namespace.
const flagNamespace = "namespace"

// serverNames offers the names of a kind that the server tells, none if it does not tell them in time.
func serverNames(dataDir *string, kind string, of func(*cobra.Command) string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		namespace := ""
		if of != nil {
			namespace = of(c)
		}
		return beginning(typed, knownNames(c, *dataDir, kind, namespace)), cobra.ShellCompDirectiveNoFileComp
	}
}

func knownNames(c *cobra.Command, dataDir, kind, namespace string) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), completionLimit)
	defer cancel()
	names, _ := admin.GetNames.Call(ctx, dataDir, admin.NamesRequest{Kind: kind, Namespace: namespace}) // nobody would read an error
	return names
}

// chosenNamespace is that of the command line as far as it is typed.
func chosenNamespace(c *cobra.Command) string {
	namespace, _ := c.Flags().GetString(flagNamespace) // every caller has the flag
	return namespace
}

func beginning(typed string, words []string) []cobra.Completion {
	return slices.DeleteFunc(slices.Clone(words), func(w string) bool { return !strings.HasPrefix(w, typed) })
}

// oneOf offers some words.
func oneOf(words ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return beginning(typed, words), cobra.ShellCompDirectiveNoFileComp
	}
}

// someOf offers words of a list that are not in it yet.
func someOf(words ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		var all []cobra.Completion
		for _, word := range words {
			if !slices.Contains(strings.Split(before, ","), word) {
				all = append(all, before+word)
			}
		}
		return beginning(typed, all), cobra.ShellCompDirectiveNoFileComp
	}
}

// arguments offers for each argument what its function does; nil: nothing.
func arguments(each ...cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(each) || each[len(args)] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return each[len(args)](c, args, typed)
	}
}

// serviceNames offers [NAMESPACE/]NAME.
func serviceNames(dataDir *string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		in, _, ok := strings.Cut(typed, "/")
		if !ok {
			return serverNames(dataDir, admin.NamesOfServices, chosenNamespace)(c, nil, typed)
		}
		names := knownNames(c, *dataDir, admin.NamesOfServices, in)
		for i := range names {
			names[i] = in + "/" + names[i]
		}
		return beginning(typed, names), cobra.ShellCompDirectiveNoFileComp
	}
}

// podNames offers pod/NAME.
func podNames(dataDir *string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		names := knownNames(c, *dataDir, admin.NamesOfPods, chosenNamespace(c))
		for i := range names {
			names[i] = "pod/" + names[i]
		}
		return beginning(typed, names), cobra.ShellCompDirectiveNoFileComp
	}
}

// hostURLs offers the hosts of Ingresses, after the scheme if one is typed; a path may follow.
func hostURLs(dataDir *string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		scheme := ""
		if before, _, ok := strings.Cut(typed, "://"); ok {
			scheme = before + "://"
		}
		names := knownNames(c, *dataDir, admin.NamesOfHosts, "")
		for i := range names {
			names[i] = scheme + names[i] + "/"
		}
		return beginning(typed, names), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// imageNames offers what the store has, and more.
func imageNames(dataDir *string, more ...string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		store := server.ImageStore(*dataDir)
		_ = store.Load() // nobody would read an error
		return beginning(typed, append(imageRefs(store), more...)), cobra.ShellCompDirectiveNoFileComp
	}
}

// archives offers files of images.
func archives(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"tar", "tgz", "gz", "zst", "tzst"}, cobra.ShellCompDirectiveFilterFileExt
}

// flagValues are what flags of any command can be; those of the server are words of its own.
var flagValues = map[string]cobra.CompletionFunc{
	printer.FlagOutput:          oneOf(printer.Formats...),
	"proxy-mode":                oneOf(server.ModeAuto, server.ModeEBPF, server.ModeIPTables),
	"disable":                   someOf(server.OptionalParts...),
	"host-images":               oneOf(string(hostimages.On), string(hostimages.PrivilegedNamespaces), string(hostimages.Off)),
	"xdp":                       oneOf(valueAuto, valueOff),
	"ebpf-bypass":               oneOf(valueAuto, valueOff),
	"ebpf-scheduler":            oneOf(ebpf.Random.String(), ebpf.RoundRobin.String(), ebpf.LeastConnections.String(), ebpf.Maglev.String()),
	"ingress-access-log-format": oneOf(server.AccessLogFormats...),
	"ingress-classes":           someOf(server.DefaultIngressClasses()...),
}

// completes says for the flags of a command and those below it what a shell may offer.
func completes(c *cobra.Command, dataDir *string) {
	for _, sub := range c.Commands() {
		completes(sub, dataDir)
	}
	offer := func(name string, f cobra.CompletionFunc) {
		if c.LocalNonPersistentFlags().Lookup(name) != nil {
			must(c.RegisterFlagCompletionFunc(name, f))
		}
	}
	for name, f := range flagValues {
		offer(name, f)
	}
	offer(flagNamespace, serverNames(dataDir, admin.NamesOfNamespaces, nil))
	offer("from", podNames(dataDir))
	offer("ingress-access-log", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	offer("config", cobra.FixedCompletions([]cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt))
	offer("root", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
	offer("cgroup", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
}

// must is for what fails only if the program is written wrongly.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// completeKubectl offers what kubectl's own completion does.
func completeKubectl(dataDir *string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		args, err := ownFlags(args, dataDir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveFilterDirs // the value of --data-dir is being typed
		}
		_ = chooseKubeconfig(args, server.KubeconfigPath(*dataDir)) // without it kubectl offers what needs none
		ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), kubectlCompletionLimit)
		defer cancel()
		var out bytes.Buffer
		done := make(chan error, 1)
		kubectl := kubectlCommand(slices.Concat([]string{cobra.ShellCompRequestCmd}, args, []string{typed}))
		kubectl.SetOut(&out)
		kubectl.SetErr(io.Discard)
		go func() { done <- kubectl.ExecuteContext(ctx) }()
		select {
		case err := <-done:
			if err == nil {
				return readCompletions(out.String())
			}
		case <-ctx.Done(): // it is left behind, and ends with this process
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// readCompletions reads what a __complete command of cobra prints: a word a line, then ":" and the directive.
func readCompletions(text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	last := len(lines) - 1
	directive, err := strconv.Atoi(strings.TrimPrefix(lines[last], ":"))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return lines[:last], cobra.ShellCompDirective(directive)
}
