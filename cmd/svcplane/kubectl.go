package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	"svcplane/server"
	"svcplane/server/admin"
	"svcplane/usage"
)

// newKubectl embeds kubectl. Its own flags are kubectl's: cobra must not read them here.
func newKubectl(dataDir *string) *cobra.Command {
	own := &cobra.Command{
		Use:   "kubectl",
		Short: "Run kubectl, with this server's kubeconfig unless another one is given",
		Example: "  svcplane kubectl get services --all-namespaces\n" +
			"  svcplane kubectl --data-dir /srv/svcplane get pods",
		DisableFlagParsing: true,
		ValidArgsFunction:  completeKubectl(dataDir),
		RunE: func(c *cobra.Command, args []string) error {
			args, err := ownFlags(args, dataDir)
			if err != nil {
				return admin.Blame(err)
			}
			if err := chooseKubeconfig(args, server.KubeconfigPath(*dataDir)); err != nil {
				return err
			}
			if err := kubectlCommand(args).ExecuteContext(c.Context()); err != nil {
				util.CheckErr(err) // prints it as kubectl does, and ends with kubectl's code
			}
			return nil
		},
	}
	usage.SetExitCodes(own, "0 as of kubectl", "1 as of kubectl; of diff: there are differences", ">1 as of kubectl; of exec and run: what the program ended with")
	return own
}

// kubectlCommand is kubectl, called with arguments.
func kubectlCommand(args []string) *cobra.Command {
	// kubectl looks for plugins and names itself by these.
	os.Args = append([]string{"kubectl"}, args...)
	kubectl := cmd.NewDefaultKubectlCommandWithArgs(cmd.KubectlOptions{
		PluginHandler: cmd.NewDefaultPluginHandler([]string{"kubectl"}),
		Arguments:     os.Args,
		ConfigFlags:   genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50),
		IOStreams:     genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
	})
	kubectl.SetArgs(args)
	kubectl.SilenceErrors = true // said by who calls it
	return kubectl
}

// ownFlags takes a leading --data-dir out of kubectl's arguments.
func ownFlags(args []string, dataDir *string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	if value, ok := strings.CutPrefix(args[0], "--data-dir="); ok {
		*dataDir = value
		return args[1:], nil
	}
	if args[0] == "--data-dir" {
		if len(args) < 2 {
			return nil, errors.New("--data-dir needs a value")
		}
		*dataDir = args[1]
		return args[2:], nil
	}
	return args, nil
}

// chooseKubeconfig points kubectl at our kubeconfig unless the user chose one.
func chooseKubeconfig(args []string, path string) error {
	chosen := os.Getenv("KUBECONFIG") != "" || slices.ContainsFunc(args, func(a string) bool {
		return a == "--kubeconfig" || strings.HasPrefix(a, "--kubeconfig=")
	})
	if chosen {
		return nil
	}
	switch _, err := clientcmd.LoadFromFile(path); {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		if needsNoServer(args) || hasFile(clientcmd.RecommendedHomeFile) {
			return nil // kubectl's own configuration then counts
		}
		return fmt.Errorf("no kubeconfig %s: say --data-dir DIR of a server that was started on this machine, or --kubeconfig FILE", path)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission to read %s, which gives all rights over the cluster: run this as root (sudo svcplane kubectl), or say --kubeconfig FILE", path)
	case err != nil:
		return fmt.Errorf("kubeconfig %s cannot be understood: %w: move it aside, and the server writes it anew when it starts", path, err)
	}
	return os.Setenv("KUBECONFIG", path)
}

func hasFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// needsNoServer says whether these arguments of kubectl are about kubectl alone.
func needsNoServer(args []string) bool {
	command := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if command < 0 {
		return true
	}
	switch args[command] {
	case "help", "completion", "__complete", "__completeNoDesc", "config", "kustomize", "options", "plugin":
		return true
	case "version":
		return slices.Contains(args, "--client") || slices.Contains(args, "--client=true")
	}
	return slices.ContainsFunc(args, func(a string) bool { return a == "--help" || a == "-h" || a == "--dry-run=client" })
}
