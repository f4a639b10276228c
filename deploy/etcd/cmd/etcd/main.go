// Command etcd is etcd, built from the modules that this repository pins, for
// machines that can't pull its image.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
