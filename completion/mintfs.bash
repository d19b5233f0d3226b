# Completion of mintfs for bash: commands, options, and names of models in the store that the working directory or MINTFS_STORE tells.

_mintfs_options()
{
	case $1 in
	init | version) echo --json --help ;;
	mount) echo --foreground -o --help ;;
	umount) echo --lazy --json --help ;;
	upgrade) echo --json --help ;;
	commit) echo --message --store --json --help ;;
	discard) echo --force --store --json --help ;;
	list) echo --names --store --json --color --help ;;
	log) echo --number --all --store --json --color --help ;;
	show | status) echo --store --json --color --help ;;
	diff) echo --all --store --json --color --help ;;
	find) echo --number --store --json --color --help ;;
	lineage) echo --up --down --both --depth --dot --mermaid --store --json --color --help ;;
	stale) echo --all --store --json --color --help ;;
	blame) echo --store --json --color --help ;;
	uses) echo --store --json --color --help ;;
	alias) echo --delete --history --store --json --color --help ;;
	evaluate) echo --dataset --metrics --store --json --help ;;
	compare) echo --store --json --color --help ;;
	process) echo --jobs --dataset --dry-run --airflow --trust --run --store --json --color --help ;;
	watch) echo --from --exec --once --store --json --help ;;
	export) echo --all --output --store --json --help ;;
	backup) echo --store --json --help ;;
	restore) echo --json --help ;;
	import) echo --renumber --tree --database --check-contents --dry-run --store --json --help ;;
	retire) echo --force --message --store --json --help ;;
	prune) echo --keep-last --keep-best --keep-aliased --older-than --drafts --all --yes --verbose --store --json --color --help ;;
	fsck) echo --verify --rate --restart --repair --store --json --color --help ;;
	gc) echo --dry-run --grace --verbose --store --json --help ;;
	path) echo --relative --resolve --store --json --help ;;
	esac
}

_mintfs_commands='init mount umount upgrade commit discard list log show diff status find lineage stale blame uses alias path watch export import backup restore retire prune gc fsck process evaluate compare version help'

_mintfs()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} store=() i
	COMPREPLY=()
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$_mintfs_commands" -- "$cur")
		return
	fi
	case $prev in
	--store | --tree)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		compopt -o filenames
		return
		;;
	--color)
		mapfile -t COMPREPLY < <(compgen -W 'auto always never' -- "$cur")
		return
		;;
	-o)
		if [[ $command == mount ]]; then
			mapfile -t COMPREPLY < <(compgen -W 'ro allow_other noallow_other nopassthrough debug log= deaths=' -- "$cur")
			return
		fi
		;;&
	-o | --output | --database)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames
		return
		;;
	-n) [[ $command == log ]] && return ;;
	-m | --from | --exec | --message | --number | --keep-last | --keep-best | --older-than | --grace | --rate) return ;;
	esac
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(_mintfs_options "$command")" -- "$cur")
		return
	fi
	case $command in
	process)
		if ((COMP_CWORD == 2)); then
			mapfile -t COMPREPLY < <(compgen -W 'check show run update history report watch export' -- "$cur")
			return
		fi
		mapfile -t COMPREPLY < <(compgen -d -- "$cur"; mintfs list --names process/ 2>/dev/null | awk -v cur="$cur" 'index($0, cur) == 1')
		;;
	help) mapfile -t COMPREPLY < <(compgen -W "$_mintfs_commands" -- "$cur") ;;
	import)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	init | mount | umount | upgrade | status | gc | fsck | backup | restore)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	commit | discard | list | log | show | diff | find | lineage | stale | blame | uses | alias | path | evaluate | compare | watch | export | retire | prune)
		for ((i = 2; i < COMP_CWORD - 1; i++)); do
			[[ ${COMP_WORDS[i]} == --store ]] && store=(--store "${COMP_WORDS[i + 1]}")
		done
		mapfile -t COMPREPLY < <(
			compgen -d -- "$cur"
			[[ $cur == [/.]* ]] || mintfs list --names "${store[@]}" 2>/dev/null | grep -F -- "$cur" | awk -v cur="$cur" 'index($0, cur) == 1'
		)
		compopt -o filenames -o nospace
		;;
	esac
}

complete -F _mintfs mintfs
