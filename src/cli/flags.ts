/**
 * The library's sentences name options of `new WebhookService()`, which nobody at a command line can
 * set: here they name flags and variables instead. Advice that has no flag is left out.
 */
import { WebhookError } from '../index.ts'

/** The flag that says where data is. */
export type PlaceFlag = '--data' | '--from'

/** @returns the same error in flags; one that is no WebhookError as it is */
export function inFlags(error: unknown, place: PlaceFlag): unknown {
  if (!(error instanceof WebhookError)) return error
  return new WebhookError(error.code, sentenceInFlags(error.message, place), { cause: error })
}

export function sentenceInFlags(sentence: string, place: PlaceFlag): string {
  return phrases(place).reduce((text, [phrase, flag]) => text.replace(phrase, flag), sentence)
}

function phrases(place: PlaceFlag): readonly (readonly [RegExp, string])[] {
  const another = `name another file with ${place}`
  return [
    [/name another file in `storage`/, another],
    [/a file in `storage`/, `a file in ${place}`],
    [/name the file that its `storage` names/, `name the file of the service with ${place}`],
    [/give this one its own file with `sqlite\(.+?\)`, or wait for it with `.+?`/, `or ${another}`],
    [/`path` of sqlite\(\)/, place],
    [/; for a store without a file use memory\(\)/, ''],
    [/; for PostgreSQL give .+ as `storage`/, '; this command keeps its data in a file'],
    [/`schema` of postgres\(\)|`postgres\(url, \{ schema \}\)`/, '--schema'],
    [/a URL like (\S+), a list of them, or a Pool of `pg`/, `${place} to be a URL like $1`],
    [/`encryptionKeys` or (KMSG_\w+)/, '$1'],
    [/(KMSG_\w+) or `encryptionKeys`/, '$1'],
    [/`allowedNetworks`/, '--allow'],
    [/`secret`/, '--secret (or KMSG_WEBHOOK_SECRET)'],
    [/`url`/, '--to'],
    [/put them into `headers` instead/, 'leave them out'],
  ]
}

/** Of an event: the fields it names are those of the line. */
export function problemOfLine(sentence: string): string {
  return sentence.replace(' (`maxPayloadBytes`)', '')
}
