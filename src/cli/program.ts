/** The command line: commands, options, and the help that documents them. */
import { readFileSync } from 'node:fs'
import { Command, Option } from 'commander'
import { collect, integer, schedule, speedFactor } from './arguments.ts'
import { dev } from './dev.ts'
import { doctor } from './doctor.ts'
import { find } from './find.ts'
import { inFlags, type PlaceFlag } from './flags.ts'
import { key } from './key.ts'
import { migrate } from './migrate.ts'
import { usualFile } from './places.ts'
import { send } from './send.ts'
import { type Language, languageOf, wordsOf } from './words.ts'

/** @param ended takes the exit code of the command that ran */
export function createProgram(ended: (exitCode: number) => void): Command {
  const program = new Command('kmsg-webhook')
    .description('Durable, signed webhook delivery from the command line.')
    .version(packageVersion())
    .option('--debug', 'show the stack of an error')
    .exitOverride()
    .showHelpAfterError('(--help tells more)')
    .addHelpText('after', generalHelp)
  addDev(program, ended)
  addSend(program, ended)
  addDoctor(program, ended)
  addFind(program, ended)
  addMigrate(program, ended)
  addKey(program, ended)
  return program
}

function addDev(program: Command, ended: (exitCode: number) => void): void {
  program
    .command('dev')
    .summary('see it work: events, retries, batches and signatures, live')
    .description(devDescription)
    .option('--port <number>', 'port of the inbox on 127.0.0.1 (default: 4010)', integer(0, 65_535))
    .option('--data <file>', 'where events and deliveries are kept', './.k-msg/dev.db')
    .option(
      '--speed <factor>',
      'how much faster than real the retry schedule runs',
      speedFactor,
      60,
    )
    .addOption(languageOption())
    .action(async ({ port, data, speed, lang }) => {
      ended(await told('--data', dev({ port, data, speed, words: wordsOf[lang as Language] })))
    })
}

function addSend(program: Command, ended: (exitCode: number) => void): void {
  program
    .command('send')
    .summary('deliver the events of a file or of standard input to a URL')
    .description(sendDescription)
    .argument('<file>', 'events, one JSON object per line; - reads standard input')
    .requiredOption('--to <url>', 'where to send them')
    .addOption(
      new Option(
        '--secret <secret>',
        'signs the requests; one is created and shown when omitted',
      ).env('KMSG_WEBHOOK_SECRET'),
    )
    .option('--data <file>', 'where events and deliveries are kept (default: a file per URL)')
    .option(
      '--allow <cidr>',
      'a network the URL may be in although it is private; repeatable',
      collect,
    )
    .option(
      '--allow-private',
      'allow 127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, ::1, fc00::/7',
    )
    .addOption(
      new Option('--schedule <delays>', `delays before retries: ${schedules}`)
        .argParser(schedule)
        .default(schedule('fast'), 'fast'),
    )
    .option('--concurrency <number>', 'requests under way at the same time', integer(1, 1_000), 10)
    .option('--retry-failed', 'first send again what failed in earlier runs')
    .addOption(languageOption())
    .addHelpText('after', sendHelp)
    .action(async (file, options) => {
      const retryFailed = options.retryFailed === true
      const words = wordsOf[options.lang as Language]
      ended(await told('--data', send({ ...options, file, retryFailed, words })))
    })
}

function addDoctor(program: Command, ended: (exitCode: number) => void): void {
  program
    .command('doctor')
    .summary('check a data file or database for anything lost, doubled or contradictory')
    .description(doctorDescription)
    .option('--data <place>', 'the file of a service, or postgres://user@host/database', usualFile)
    .option('--schema <name>', 'schema of the tables in a database (default: kmsg)')
    .option('--json', 'print the report as JSON')
    .addOption(languageOption())
    .action(async ({ data, schema, json, lang }) => {
      const words = wordsOf[lang as Language]
      ended(await told('--data', doctor({ data, schema, json: json === true, words })))
    })
}

function addFind(program: Command, ended: (exitCode: number) => void): void {
  program
    .command('find')
    .summary('find an event by its id alone, in every tenant')
    .description(findDescription)
    .argument('<id>', 'of an event or a delivery')
    .option('--data <place>', 'the file of a service, or postgres://user@host/database', usualFile)
    .option('--schema <name>', 'schema of the tables in a database (default: kmsg)')
    .option('--json', 'print what is found as JSON')
    .addOption(languageOption())
    .action(async (id, { data, schema, json, lang }) => {
      const words = wordsOf[lang as Language]
      ended(await told('--data', find({ id, data, schema, json: json === true, words })))
    })
}

function addMigrate(program: Command, ended: (exitCode: number) => void): void {
  program
    .command('migrate')
    .summary('move everything from a data file to PostgreSQL')
    .description(migrateDescription)
    .requiredOption('--from <place>', `sqlite:FILE, such as sqlite:${usualFile}`)
    .requiredOption('--to <url>', 'postgres://user@host/database')
    .option('--schema <name>', 'schema of the tables there, empty or new (default: kmsg)')
    .addOption(languageOption())
    .action(async ({ from, to, schema, lang }) => {
      const words = wordsOf[lang as Language]
      ended(await told('--from', migrate({ from, to, schema, words })))
    })
}

function addKey(program: Command, ended: (exitCode: number) => void): void {
  program
    .command('key')
    .summary('make a key that encrypts secrets in the data file')
    .description(keyDescription)
    .option('--id <id>', 'its name among your keys (default: made from the date)')
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

function languageOption(): Option {
  return new Option('--lang <language>', 'language of labels')
    .choices(['en', 'ko'])
    .default(languageOf(process.env), 'from LANG')
}

/** The built file lies as deep in dist/ as this one in src/. */
function packageVersion(): string {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(manifest) as { version: string }).version
}

const schedules = 'fast (6 within a minute), standard (9 within 75 h), or ms,ms,…'

const generalHelp = `
Exit codes:
  0    all is well
  1    something failed: a delivery, a line that send was given, a check
  2    wrong usage
  130  stopped with Ctrl-C; the same command of send goes on, of migrate begins anew;
       dev has no other end: 0

Environment:
  NO_COLOR             no colours
  LANG                 ko_… shows Korean labels
  KMSG_WEBHOOK_SECRET  the secret of send, so that it is not in the process list
  KMSG_WEBHOOK_ENCRYPTION_KEYS
                       keys that encrypt secrets in data files, newest first, separated by commas
`

const devDescription = [
  'Starts the real engine on an embedded SQLite file and an inbox on 127.0.0.1 that verifies signatures; registers four endpoints (healthy; flaky: fails twice per event; filtered; batched); dispatches one event of each of the 20 types, then whatever arrives on standard input, one event as JSON per line; and shows every attempt as it happens.',
  'On a terminal it stays until Ctrl-C. With other input it ends when the input has ended and every delivery is settled. A second start with the same data file goes on with what was left.',
].join('\n\n')

const sendDescription = [
  'Accepts the events durably, delivers them signed, retries, waits until all of them are settled, and prints a summary. Progress goes to standard error, the summary to standard output.',
  "Ctrl-C stops cleanly. A second run with the same file, URL and data file goes on: what was accepted before is a duplicate and is not sent twice. That is known by the events' ids; a line of a file without one gets an id made from its number and content, a line of standard input a random one. A missing timestamp becomes the present time.",
].join('\n\n')

const sendHelp = `
Examples:
  kmsg-webhook send events.ndjson --to https://your-app.com/webhooks
  kmsg-webhook send events.ndjson --to http://127.0.0.1:3000/hook --allow 127.0.0.0/8
  tail -f events.ndjson | kmsg-webhook send - --to https://your-app.com/webhooks --data queue.db
`

const doctorDescription =
  'Opens the file or the database read-only, also while services use it, prints what it holds, and checks every invariant: that nothing accepted is lost, nothing settled is due again, and so on. Exits with 1 when something is wrong. A password can come from PGPASSWORD.'

const findDescription = [
  'Opens the file or the database read-only, also while services use it, and prints the event of this id in every tenant that has one, or the event of this delivery: its tenant, and for each delivery the endpoint, state, attempts, when it ended or is due, its id, and why. Exits with 1 when there is none.',
  'Why a delivery waits, and what each attempt met, tells `explainEvent(id, { tenantId })` or `getEvent` of a service.',
].join('\n\n')

const migrateDescription = [
  'Copies endpoints with their secrets (as they are stored, encrypted or not), events, deliveries, attempts and statistics. Deliveries that wait go on when a service starts on the new place, and count their attempts on; an event id that was accepted stays known.',
  'One transaction: every table is read back and compared by its checksum before it is committed. When something differs, or with Ctrl-C, nothing stays in the new place, and the same command begins anew. No service may use the file meanwhile; the file is only read. The schema has to be empty or new. A password can come from PGPASSWORD.',
].join('\n\n')

const keyDescription =
  'Prints a new key on standard output. Give it to services in KMSG_WEBHOOK_ENCRYPTION_KEYS, before older keys and a comma; an older key can be left out once `doctor` and health() count no endpoint under it. Keep it apart from the data file and its backups: who has both reads the secrets, and without it nobody does.'
