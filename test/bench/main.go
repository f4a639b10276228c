package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usageText = `usage: bench COMMAND [FLAGS]

  run       measure workloads of raftsman and others, in turn; bench run -help has the flags
  compare   print medians, ratios and limits: bench compare RESULTS...
  hops      Go benchmarks of this commit and another one: bench hops -help`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usageText)
	}
	switch args[0] {
	case "run":
		return runCommand(ctx, args[1:])
	case "compare":
		return compare(args[1:])
	case "hops":
		return hops(ctx, args[1:])
	case kfakeCommand:
		if len(args) != 2 {
			return fmt.Errorf("%s: want a port", kfakeCommand)
		}
		return serveKfake(args[1])
	}
	return fmt.Errorf("there is no command %q\n%s", args[0], usageText)
}

func runCommand(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	var cfg config
	cfg.bind(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("run: %q is no flag", f.Arg(0))
	}
	remove, err := cfg.check()
	if err != nil {
		return err
	}
	defer remove()
	return run(ctx, &cfg)
}
