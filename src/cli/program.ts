/** The command line: commands and options; the help that documents them is in help.ts. */
import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { collect, integer, schedule, speedFactor } from './arguments.ts'
import { dev } from './dev.ts'
import { doctor } from './doctor.ts'
import { find } from './find.ts'
import { inFlags, type PlaceFlag } from './flags.ts'
import { type HelpTexts, helpConfiguration, helpOf } from './help.ts'
import { key } from './key.ts'
import { migrate } from './migrate.ts'
import { usualFile } from './places.ts'
import { send } from './send.ts'
import { type Language, languageOf, type Words, wordsOf } from './words.ts'

/** What every command is made with. */
interface Making {
  /** Takes the exit code of the command that ran. */
  readonly ended: (exitCode: number) => void
  readonly language: Language
  readonly help: HelpTexts
  readonly words: Words
}

/** @param ended takes the exit code of the command that ran */
export function createProgram(ended: (exitCode: number) => void, language: Language): Command {
  const help = helpOf[language]
  const making = { ended, language, help, words: wordsOf[language] }
  const program = new Command('kmsg-webhook')
    .description(help.program)
    .version(packageVersion(), '-V, --version', help.version)
    .option('--debug', help.debug)
    .helpOption('-h, --help', help.help)
    .helpCommand('help [command]', help.help)
    .configureHelp(helpConfiguration(language))
    .exitOverride()
    .showHelpAfterError(help.moreHelp)
    .addHelpText('after', help.exits)
    .addOption(languageOption(making))
  for (const add of [addDev, addSend, addDoctor, addFind, addMigrate, addKey]) add(program, making)
  return program
}

function addDev(program: Command, making: Making): void {
  const { ended, help, words } = making
  program
    .command('dev')
    .summary(help.dev.summary)
    .description(help.dev.description)
    .option('--port <number>', help.dev.port, integer(0, 65_535))
    .option('--data <file>', help.dev.data, './.k-msg/dev.db')
    .option('--speed <factor>', help.dev.speed, speedFactor, 60)
    .addOption(languageOption(making))
    .action(async ({ port, data, speed }) => {
      ended(await told('--data', dev({ port, data, speed, words })))
    })
}

function addSend(program: Command, making: Making): void {
  const { ended, help, words } = making
  program
    .command('send')
    .summary(help.send.summary)
    .description(help.send.description)
    .argument('<file>', help.send.file)
    .requiredOption('--to <url>', help.send.to)
    .addOption(new Option('--secret <secret>', help.send.secret).env('KMSG_WEBHOOK_SECRET'))
    .option('--data <file>', help.send.data)
    .option('--allow <cidr>', help.send.allow, collect)
    .option('--allow-private', help.send.allowPrivate)
    .addOption(
      new Option('--schedule <delays>', help.send.schedule)
        .argParser(schedule)
        .default(schedule('fast'), 'fast'),
    )
    .option('--concurrency <number>', help.send.concurrency, integer(1, 1_000), 10)
    .option('--retry-failed', help.send.retryFailed)
    .addOption(languageOption(making))
    .addHelpText('after', `\n${help.send.examples}\n${sendExamples}`)
    .action(async (file, options) => {
      const retryFailed = options.retryFailed === true
      ended(await told('--data', send({ ...options, file, retryFailed, words })))
    })
}

function addDoctor(program: Command, making: Making): void {
  const { ended, help, words } = making
  program
    .command('doctor')
    .summary(help.doctor.summary)
    .description(help.doctor.description)
    .option('--data <place>', help.place, usualFile)
    .option('--schema <name>', help.schema)
    .option('--json', help.doctor.json)
    .addOption(languageOption(making))
    .action(async ({ data, schema, json }) => {
      ended(await told('--data', doctor({ data, schema, json: json === true, words })))
    })
}

function addFind(program: Command, making: Making): void {
  const { ended, help, words } = making
  program
    .command('find')
    .summary(help.find.summary)
    .description(help.find.description)
    .argument('<id>', help.find.id)
    .option('--data <place>', help.place, usualFile)
    .option('--schema <name>', help.schema)
    .option('--json', help.find.json)
    .addOption(languageOption(making))
    .action(async (id, { data, schema, json }) => {
      ended(await told('--data', find({ id, data, schema, json: json === true, words })))
    })
}

function addMigrate(program: Command, making: Making): void {
  const { ended, help, words } = making
  program
    .command('migrate')
    .summary(help.migrate.summary)
    .description(help.migrate.description)
    .requiredOption('--from <place>', help.migrate.from)
    .requiredOption('--to <url>', 'postgres://user@host/database')
    .option('--schema <name>', help.migrate.schema)
    .addOption(languageOption(making))
    .action(async ({ from, to, schema }) => {
      ended(await told('--from', migrate({ from, to, schema, words })))
    })
}

function addKey(program: Command, making: Making): void {
  const { ended, help } = making
  program
    .command('key')
    .summary(help.key.summary)
    .description(help.key.description)
    .option('--id <id>', help.key.id)
    .addOption(languageOption(making))
    .action(({ id }) => {
      ended(key(id))
    })
}

/** What goes wrong is told in words of the command line. */
function told(place: PlaceFlag, running: Promise<number>): Promise<number> {
  return running.catch((error: unknown) => {
    throw inFlags(error, place)
  })
}

function languageOption({ language, help }: Making): Option {
  return new Option('--lang <language>', help.lang)
    .choices(['en', 'ko'])
    .default(language, help.fromEnvironment)
}

/** Known before anything is parsed: help is written with it. */
export function wantedLanguage(args: readonly string[], env: NodeJS.ProcessEnv): Language {
  const text = args.join(' ')
  const [, wanted] = /(?:^| )--lang[ =](en|ko)(?: |$)/.exec(text) ?? []
  return (wanted as Language | undefined) ?? languageOf(env)
}

/** The built file lies as deep in dist/ as this one in src/. */
function packageVersion(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { version: string }).version
}

const sendExamples = `  kmsg-webhook send events.ndjson --to https://your-app.com/webhooks
  kmsg-webhook send events.ndjson --to http://127.0.0.1:3000/hook --allow 127.0.0.0/8
  tail -f events.ndjson | kmsg-webhook send - --to https://your-app.com/webhooks --data queue.db
`
