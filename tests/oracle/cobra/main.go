// Answers, one JSON line for each on standard input, how cobra and pflag read a kubectl command
// line: the commands and flags of `mk8s_proxy/kubectl/flags.json` (the first argument) as a tree of
// cobra commands, with the name normalization of kubectl.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type table struct {
	Commands map[string]struct {
		Aliases []string            `json:"aliases"`
		Flags   map[string][]string `json:"flags"`
	} `json:"commands"`
}

type reading struct {
	Error     string      `json:"error"`
	Words     string      `json:"words"`
	Flags     [][2]string `json:"flags"`
	Arguments []string    `json:"arguments"`
	Dash      int         `json:"dash"`
}

// Notes each setting of a flag, in their order.
type noted struct {
	name  string
	given *[][2]string
}

func (n noted) String() string { return "" }
func (n noted) Type() string   { return "text" }
func (n noted) Set(value string) error {
	*n.given = append(*n.given, [2]string{n.name, value})
	return nil
}

// What a flag is set to when nothing is attached to it: no argument can be this.
const alone = "\x00"

func define(flags *pflag.FlagSet, described map[string][]string, given *[][2]string) {
	for name, about := range described {
		flag := flags.VarPF(noted{name, given}, name, about[1], "")
		if about[0] != "value" {
			flag.NoOptDefVal = alone
		}
	}
}

func build(of table, given *[][2]string) *cobra.Command {
	root := &cobra.Command{Use: "kubectl", Run: func(*cobra.Command, []string) {}}
	// k8s.io/component-base/cli/flag: WordSepNormalizeFunc
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	define(root.PersistentFlags(), of.Commands[""].Flags, given)
	commands := map[string]*cobra.Command{"": root}
	for depth := 1; depth < 5; depth++ {
		for words, about := range of.Commands {
			parts := strings.Fields(words)
			if len(parts) != depth {
				continue
			}
			command := &cobra.Command{
				Use: parts[depth-1], Aliases: about.Aliases, Run: func(*cobra.Command, []string) {},
			}
			define(command.Flags(), about.Flags, given)
			commands[strings.Join(parts[:depth-1], " ")].AddCommand(command)
			commands[words] = command
		}
	}
	return root
}

func read(of table, arguments []string) (found reading) {
	given := [][2]string{}
	root := build(of, &given)
	command, left, err := root.Find(arguments)
	if err == nil {
		err = command.ParseFlags(left)
	}
	if err != nil {
		return reading{Error: err.Error()}
	}
	return reading{
		Words:     strings.TrimSpace(strings.TrimPrefix(command.CommandPath(), "kubectl")),
		Flags:     given,
		Arguments: append([]string{}, command.Flags().Args()...),
		Dash:      command.ArgsLenAtDash(),
	}
}

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var of table
	if err := json.Unmarshal(text, &of); err != nil {
		panic(err)
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		var asked [][]string
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			panic(err)
		}
		answers := make([]reading, len(asked))
		for i, one := range asked {
			answers[i] = read(of, one)
		}
		if err := json.NewEncoder(out).Encode(answers); err != nil {
			panic(err)
		}
		out.Flush()
	}
}
