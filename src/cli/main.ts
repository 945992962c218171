#!/usr/bin/env node
/** `kmsg-webhook`: reads the command line and hands over; how a command ends is decided here. */
import { CommanderError } from 'commander'
import { describeFailure, exitCodeOf, exitCodes } from './failure.ts'
import { createProgram, wantedLanguage } from './program.ts'

// `kmsg-webhook dev | head` is no error: the reader has seen enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(exitCodes.well)
})

try {
  const ended = (code: number) => {
    process.exitCode = code
  }
  await createProgram(ended, wantedLanguage(process.argv, process.env)).parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has said what is wrong.
    process.exitCode = error.exitCode === 0 ? exitCodes.well : exitCodes.usage
  } else {
    process.stderr.write(describeFailure(error, process.argv.includes('--debug')))
    process.exitCode = exitCodeOf(error)
  }
}
