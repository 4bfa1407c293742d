import type { Command } from 'commander'

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

type Word = { readonly path: string; readonly word: string; readonly description: string }

/** A script that lets a shell complete the words and options of the program, made from the program itself. */
export function completionScript(shell: Shell, program: Command): string {
  const words = wordsOf(program, '')
  if (shell === 'fish') return fishScript(words)
  const paths = [...new Set(words.map(({ path }) => path))]
  const cases = paths.map((path) => {
    const here = words.filter((each) => each.path === path).map(({ word }) => word)
    return `    '${path}') words='${here.join(' ')}' ;;`
  })
  return shell === 'zsh' ? zshScript(cases) : bashScript(cases)
}

/** Each word and option with the words that come before it. */
function wordsOf(command: Command, path: string): Word[] {
  const options = command.options.flatMap(({ long, description }) => (long ? [{ path, word: long, description }] : []))
  const commands = command.commands.flatMap((child) => {
    const childPath = path === '' ? child.name() : `${path} ${child.name()}`
    return [{ path, word: child.name(), description: child.description() }, ...wordsOf(child, childPath)]
  })
  return [...commands, ...options]
}

// The words before the cursor that are no options name the command; what no command knows is an argument, and is passed over.
const FIND_PATH = (words: string, skip: string) => `  local path='' word words known
  for word in ${words}; do
    case "$word" in
      -*) ;;
      *) known="\${path:+$path }$word"; _tollgate_words "$known"; [ -n "$words" ] && path="$known" ;;
    esac
  done
  _tollgate_words "$path"
${skip}`

const WORDS = (cases: readonly string[]) => `_tollgate_words() {
  words=''
  case "$1" in
${cases.join('\n')}
  esac
}`

function bashScript(cases: readonly string[]): string {
  return `# tollgate completion bash > /etc/bash_completion.d/tollgate
${WORDS(cases)}
_tollgate() {
${FIND_PATH('"${COMP_WORDS[@]:1:COMP_CWORD-1}"', '  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))')}
}
complete -o default -F _tollgate tollgate
`
}

function zshScript(cases: readonly string[]): string {
  return `#compdef tollgate
# tollgate completion zsh > "\${fpath[1]}/_tollgate"
${WORDS(cases)}
_tollgate() {
${FIND_PATH('"${(@)argv[2,CURRENT-1]}"', '  compadd -- ${=words}')}
}
compdef _tollgate tollgate
`
}

function fishScript(words: readonly Word[]): string {
  const lines = words.map(({ path, word, description }) => {
    const condition = path === '' ? '__fish_use_subcommand' : `__fish_seen_subcommand_from ${path.split(' ').at(-1)}`
    const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-a ${word}`
    return `complete -c tollgate -f -n '${condition}' ${what} -d '${description.replaceAll("'", '’')}'`
  })
  return `# tollgate completion fish > ~/.config/fish/completions/tollgate.fish\n${lines.join('\n')}\n`
}
