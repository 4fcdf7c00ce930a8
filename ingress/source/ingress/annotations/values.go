package annotations

import (
	"strconv"
	"strings"
)

// value is what a judge may look at.
type value struct {
	text string
	of   func(name string) string // another annotation of the same controller; empty: it is not set
}

// judge tells values that restrict from those that do not.
type judge struct {
	unless    string                                      // for people: the values that do not
	restricts func(v value) (restricts bool, what string) // what exactly, if it is more than what the row says
}

func plain(unless string, restricts func(text string) bool) judge {
	return judge{unless, func(v value) (bool, string) { return restricts(v.text), "" }}
}

// isOff knows the words that switch something off. An empty value is none of them: where it stands for a name that was
// lost on the way, the protection was meant.
func isOff(text string) bool {
	switch strings.ToLower(text) {
	case "off", "no", "none", "disabled", "inactive":
		return true
	}
	on, err := strconv.ParseBool(text)
	return err == nil && !on
}

func unlessOff() judge {
	return plain("`false`, `off`, `no`, `none`", func(text string) bool { return !isOff(text) })
}

func unlessEmpty() judge { return plain("empty", func(text string) bool { return text != "" }) }

// unlessZero is for numbers that are no limit when they are 0.
func unlessZero() judge {
	return plain("`0`", func(text string) bool {
		n, err := strconv.Atoi(text)
		return err != nil || n != 0
	})
}

func oneOf(text string, words []string) bool {
	for _, w := range words {
		if strings.EqualFold(text, w) {
			return true
		}
	}
	return false
}

// every says whether all elements of a list are among words.
func every(list string, words []string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if !oneOf(strings.TrimSpace(part), words) {
			return false
		}
	}
	return true
}

func quoted(words []string) string {
	var all []string
	for _, w := range words {
		if w == "" {
			all = append(all, "empty")
			continue
		}
		all = append(all, "`"+w+"`")
	}
	return strings.Join(all, ", ")
}

// unless is for values that stand in the way of nobody.
func unless(harmless ...string) judge {
	return plain(quoted(harmless), func(text string) bool { return !oneOf(text, harmless) })
}

// only is for lists: each element must be one of those that stand in the way of nobody.
func only(harmless ...string) judge {
	return plain("nothing but "+quoted(harmless), func(text string) bool { return !every(text, harmless) })
}

// when is for values that restrict only as they are named here.
func when(restricting ...string) judge {
	return plain("other than "+quoted(restricting), func(text string) bool { return oneOf(text, restricting) })
}

// whenEvery is for lists that restrict only if every element is one of these.
func whenEvery(restricting ...string) judge {
	return plain("more than "+quoted(restricting), func(text string) bool { return every(text, restricting) })
}

// unlessAlso is for annotations that say more about another one, and nothing while that one is one of these.
func unlessAlso(own judge, other string, harmless ...string) judge {
	says := "`" + other + "` is " + quoted(harmless)
	if own.unless != "" {
		says = own.unless + ", or " + says
	}
	return judge{says, func(v value) (bool, string) {
		switch {
		case oneOf(v.of(other), harmless):
			return false, ""
		case own.restricts == nil:
			return true, ""
		}
		return own.restricts(v)
	}}
}
