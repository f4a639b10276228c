// Package api holds the description of the HTTP gateway's services, in .proto
// files, and the Go code that is made of them. Programs use
// api/raftsman/v1/raftsmanv1connect.
package api

//go:generate go run ./protogen
