package group

import "testing"

// TestCoordinates compares with Java's String.hashCode.
func TestCoordinates(t *testing.T) {
	f := func(group string, want int32) {
		t.Helper()
		if got := Coordinates(group, 50); got != want {
			t.Errorf("%q belongs to partition %d, want %d", group, got, want)
		}
	}
	f("", 0)
	f("test", 48)              // 3556498
	f("hello", 22)             // 99162322
	f("console-consumer", 40)  // -648006740
	f("polygenelubricants", 0) // -2147483648
	f("grüße", 23)             // 98768023
	f("\U0001F600", 49)        // 1772899: two UTF-16 units
	if p := Coordinates("test", 1); p != 0 {
		t.Errorf("partition %d of one", p)
	}
}
