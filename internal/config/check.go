package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Invalid refuses a value or a name, in Kafka's words where Kafka has some:
// people search for them. It is INVALID_CONFIG.
type Invalid string

func (i Invalid) Error() string { return string(i) }

func invalid(format string, args ...any) error { return Invalid(fmt.Sprintf(format, args...)) }

// check says whether a value is of the type, in the words of Kafka's ConfigDef.
func (t Type) check(value string) error {
	switch t {
	case Boolean:
		if !strings.EqualFold(value, "true") && !strings.EqualFold(value, "false") {
			return invalid("Expected value to be either true or false")
		}
	case Int, Short, Long:
		bits := map[Type]int{Int: 32, Short: 16, Long: 64}[t]
		if _, err := strconv.ParseInt(strings.TrimSpace(value), 10, bits); err != nil {
			return invalid("Not a number of type %s", t)
		}
	case Double:
		if _, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err != nil {
			return invalid("Not a number of type %s", t)
		}
	}
	return nil
}

// atLeast bounds a number from below.
func atLeast(low int64) func(string) error {
	return func(v string) error {
		if number(v) < low {
			return invalid("Value must be at least %d", low)
		}
		return nil
	}
}

// between bounds a number, both ends included.
func between(low, high int64) func(string) error {
	return func(v string) error {
		if number(v) > high {
			return invalid("Value must be no more than %d", high)
		}
		return atLeast(low)(v)
	}
}

func ratio(v string) error {
	switch f, _ := strconv.ParseFloat(strings.TrimSpace(v), 64); {
	case f > 1:
		return invalid("Value must be no more than 1")
	case !(f >= 0): // not a number is refused too
		return invalid("Value must be at least 0")
	}
	return nil
}

// oneOf allows some strings.
func oneOf(allowed ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(allowed, v) {
			return invalid("String must be one of: %s", strings.Join(allowed, ", "))
		}
		return nil
	}
}

// listOf allows a list of some strings, at least one, each once.
func listOf(allowed ...string) func(string) error {
	one := oneOf(allowed...)
	return func(v string) error {
		items := Items(v)
		if len(items) == 0 {
			return invalid("Configuration value must not be empty")
		}
		for i, item := range items {
			if slices.Contains(items[:i], item) {
				return invalid("Configuration value must not contain duplicates")
			}
			if err := one(item); err != nil {
				return err
			}
		}
		return nil
	}
}

// throttled allows what names replicas for a throttle: *, or partition:broker,...
func throttled(v string) error {
	items := Items(v)
	if len(items) == 1 && items[0] == "*" {
		return nil
	}
	for _, item := range items {
		p, b, ok := strings.Cut(item, ":")
		_, perr := strconv.ParseUint(p, 10, 31)
		_, berr := strconv.ParseUint(b, 10, 31)
		if !ok || perr != nil || berr != nil {
			return invalid("must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

// gzipLevel allows -1, the codec's default, and 1 to 9.
func gzipLevel(v string) error {
	if n := number(v); n != -1 && (n < 1 || n > 9) {
		return invalid("Value must be between 1 and 9 or equal to -1")
	}
	return nil
}

// Items splits the value of a list.
func Items(value string) (items []string) {
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// number reads a number that was checked; 0 if it was not.
func number(v string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	return n
}

// scale multiplies a number, and keeps what means "no limit".
func scale(v string, by int64) string {
	n := number(v)
	if by <= 1 || n < 0 {
		return v
	}
	if n > (1<<63-1)/by {
		return strconv.FormatInt(1<<63-1, 10)
	}
	return strconv.FormatInt(n*by, 10)
}

// unscale divides a number.
func unscale(v string, by int64) string {
	if by <= 1 {
		return v
	}
	return strconv.FormatInt(number(v)/by, 10)
}
