package main

import (
	"context"
	"os"
	goruntime "runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"svcplane/node/runtime"
	"svcplane/usage"
)

// The first thread's network namespace is what /proc/net shows of the process, and goroutines that enter another one
// for good keep their thread: this goroutine, which does not, holds the first one.
func init() { goruntime.LockOSThread() }

func main() {
	// this binary, executed again, is also what holds the pods' containers
	if handled, code := runtime.Main(os.Args); handled {
		os.Exit(code)
	}
	// Libraries put flags of theirs into this set, and cobra would offer them with every command.
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// defaultDataDir can be moved for a whole shell session by the environment.
func defaultDataDir() string {
	if dir := os.Getenv("SVCPLANE_DATA_DIR"); dir != "" {
		return dir
	}
	return standardDataDir
}

func newRoot() *cobra.Command {
	dataDir := defaultDataDir()
	root := &cobra.Command{
		Use:   "svcplane",
		Short: "Kubernetes' Services stack in one process",
		Example: "  svcplane server\n" +
			"  svcplane kubectl get services\n" +
			"  svcplane status",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&dataDir, "data-dir", dataDir, "directory of the store, the keys and the pods' state (also $SVCPLANE_DATA_DIR)")
	root.AddCommand(
		newServer(&dataDir),
		newKubectl(&dataDir),
		newStatus(&dataDir),
		newProxy(&dataDir),
		newDNS(&dataDir),
		newIngress(&dataDir),
		newImage(&dataDir),
		newCleanup(&dataDir),
		newInstall(&dataDir),
		newUninstall(&dataDir),
		newVersion(),
		newMan(),
	)
	usage.SetExitCodes(root, exitCodes...)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	must(root.MarkPersistentFlagDirname("data-dir"))
	completes(root, &dataDir)
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Example = "  svcplane completion bash > /etc/bash_completion.d/svcplane"
			for _, shell := range c.Commands() {
				shell.Example = "  svcplane completion " + shell.Name()
			}
		}
	}
	usage.Install(root)
	exits(root)
	return root
}
