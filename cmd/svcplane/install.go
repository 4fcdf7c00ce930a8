package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"svcplane/packaging"
	"svcplane/server"
	"svcplane/server/admin"
)

// standardDataDir is the server's unless a flag, the config file or the environment names another.
const standardDataDir = "/var/lib/svcplane"

// placement are the flags that install and uninstall have both.
type placement struct {
	systemd bool
	root    string
}

func (p *placement) register(fs *pflag.FlagSet) {
	fs.BoolVar(&p.systemd, "systemd", false, "the service manager is systemd")
	fs.StringVar(&p.root, "root", "/", "only write files, below this directory: the root of an image, or / on a machine where systemd does not run")
}

// config checks the flags against the machine.
func (p *placement) config(cmd *cobra.Command) (packaging.Config, error) {
	c := packaging.Config{Live: !cmd.Flags().Changed("root"), Out: cmd.OutOrStdout()}
	if !p.systemd {
		return c, admin.Blame(fmt.Errorf("say for which service manager: svcplane %s --systemd", cmd.Name()))
	}
	var err error
	if c.Root, err = filepath.Abs(p.root); err != nil {
		return c, fmt.Errorf("--root %s: %w", p.root, err)
	}
	if !c.Live {
		return c, nil
	}
	if !packaging.Running() {
		return c, errors.New("systemd does not run on this machine (there is no /run/systemd/system): " +
			"start `svcplane server` by what does, or say --root / to write the files only")
	}
	if os.Geteuid() != 0 {
		return c, fmt.Errorf("%s must run as root: use sudo", cmd.Name())
	}
	return c, nil
}

func newInstall(dataDir *string) *cobra.Command {
	var p placement
	var now bool
	cmd := &cobra.Command{
		Use:   "install --systemd [-- FLAG-OF-SERVER...]",
		Short: "Install this program, its unit, config file and shell completion on this machine; --now starts the server",
		Example: "  svcplane install --systemd --now\n" +
			"  svcplane install --systemd -- --proxy-mode iptables\n" +
			"  svcplane install --systemd --root /mnt/image",
		Args: onlyAfterDashes,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			if now && !c.Live {
				return admin.Blame(errors.New("--now starts the server on this machine: leave it out with --root"))
			}
			if *dataDir != standardDataDir {
				if *dataDir, err = filepath.Abs(*dataDir); err != nil {
					return fmt.Errorf("--data-dir: %w", err)
				}
				args = append(args, "--data-dir="+*dataDir)
			}
			if err := tryServerFlags(args, c.Live); err != nil {
				return err
			}
			c.Args, c.DataDir, c.Now = args, *dataDir, now
			if c.Binary, err = os.Executable(); err != nil {
				return fmt.Errorf("finding this program: %w", err)
			}
			var completion bytes.Buffer
			if err := newRoot().GenBashCompletionV2(&completion, true); err != nil {
				return fmt.Errorf("making the completion for bash: %w", err)
			}
			c.Completion = completion.Bytes()
			return packaging.Install(cmd.Context(), c)
		},
	}
	p.register(cmd.Flags())
	cmd.Flags().BoolVar(&now, "now", false, "start the server, or restart it if something has changed")
	return cmd
}

// onlyAfterDashes takes arguments after -- and no others.
func onlyAfterDashes(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
		return fmt.Errorf("%q is no argument of install: flags of the server come after --", args[0])
	}
	return nil
}

// tryServerFlags sees whether a server would start with these flags: on this machine with the config file that it has, else
// whether they are flags at all.
func tryServerFlags(args []string, here bool) error {
	if !here {
		server, rest, err := newRoot().Find(append([]string{"server"}, args...))
		if err == nil {
			err = server.ParseFlags(rest)
		}
		if err != nil {
			return admin.Blame(fmt.Errorf("flags of the server: %w", err))
		}
		return nil
	}
	words := []string{"server", "--check"}
	if _, err := os.Stat(packaging.ConfigPath); err == nil {
		words = append(words, "--config", packaging.ConfigPath)
	}
	server := newRoot()
	server.SetArgs(append(words, args...))
	server.SetOut(io.Discard)
	if err := server.Execute(); err != nil {
		return fmt.Errorf("the server would not start: %w", err)
	}
	return nil
}

func newUninstall(dataDir *string) *cobra.Command {
	var p placement
	var purge bool
	cmd := &cobra.Command{
		Use:   "uninstall --systemd",
		Short: "Stop the server, end its pods, and remove what install has written; with --purge the data directory, too",
		Example: "  svcplane uninstall --systemd\n" +
			"  svcplane uninstall --systemd --purge",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := p.config(cmd)
			if err != nil {
				return err
			}
			installed, err := c.Installed()
			if err != nil {
				return err
			}
			if installed == "" {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing is here that `svcplane install` has written")
				return nil
			}
			if !c.Live {
				if purge {
					return admin.Blame(errors.New("--purge removes the data of this machine's server: leave it out with --root"))
				}
				return packaging.Uninstall(cmd.Context(), c, func() error { return nil }, false) // that machine's kernel is not here
			}
			switch {
			case *dataDir != standardDataDir:
			case installed != standardDataDir: // it is in the unit, and wins over the config file
				*dataDir = installed
			default:
				if *dataDir, err = configuredDataDir(packaging.ConfigPath); err != nil {
					return err
				}
			}
			clean := func() error { return endForGood(cmd, *dataDir, purge) }
			return packaging.Uninstall(cmd.Context(), c, clean, purge)
		},
	}
	p.register(cmd.Flags())
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the data directory and the config file, too: every object, key, image and volume")
	return cmd
}

// endForGood ends the pods, empties the kernel, and says what became of the data.
func endForGood(cmd *cobra.Command, dataDir string, purge bool) error {
	if err := server.CleanUp(cmd.Context(), dataDir, purge); err != nil {
		return err
	}
	what := "kept    %s: objects, keys, images and volumes (--purge removes it)\n"
	if purge {
		what = "removed %s: objects, keys, images and volumes\n"
	}
	fmt.Fprintf(cmd.OutOrStdout(), what, dataDir)
	return nil
}
