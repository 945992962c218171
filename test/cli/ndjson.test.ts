import { describe, expect, it } from 'vitest'
import { idOfContent, randomId } from '../../src/cli/event-of-line.ts'
import { type Line, parseLine, readNdjson } from '../../src/cli/ndjson.ts'

async function read(...chunks: (string | Uint8Array)[]): Promise<Line[]> {
  const lines: Line[] = []
  const input = async function* (): AsyncGenerator<string | Uint8Array> {
    yield* chunks
  }
  for await (const line of readNdjson(input())) lines.push(line)
  return lines
}

const values = (lines: readonly Line[]): unknown[] =>
  lines.map((line) => ('value' in line ? line.value : line.problem))

describe('reading NDJSON', () => {
  it('counts every line and leaves blank ones out', async () => {
    const lines = await read('{"a":1}\n\n  \r\n{"a":2}\r\n{"a":3}')
    expect(lines.map(({ number }) => number)).toEqual([1, 4, 5])
    expect(values(lines)).toEqual([{ a: 1 }, { a: 2 }, { a: 3 }])
  })

  it('puts together what arrives in pieces, a character cut in two included', async () => {
    const bytes = Buffer.from('{"text":"안녕"}\n{"a":1}\n')
    for (let cut = 1; cut < bytes.length; cut += 1) {
      const lines = await read(bytes.subarray(0, cut), bytes.subarray(cut))
      expect(values(lines)).toEqual([{ text: '안녕' }, { a: 1 }])
    }
  })

  it('drops a byte order mark', async () => {
    expect(values(await read('\ufeff{"a":1}'))).toEqual([{ a: 1 }])
  })

  it.each([
    ['nonsense', /got text that is not/],
    ['[{"a":1}]', /got an array of 1/],
    ['"text"', /got "text"/],
    ['null', /got null/],
    ['[', /spread over several lines; `jq -c/],
    ['  "id": "e1",', /spread over several lines/],
  ])('says what is wrong with %s and reads on', async (text, problem) => {
    const [bad, good] = await read(`${text}\n{"a":1}`)
    expect(bad).toMatchObject({ number: 1, problem: expect.stringMatching(problem) })
    expect(good).toMatchObject({ number: 2, value: { a: 1 } })
  })

  it('refuses bytes that are not UTF-8', async () => {
    const [bad, good] = await read(Buffer.from([0x7b, 0xff, 0x7d, 0x0a]), '{"a":1}')
    expect(bad).toMatchObject({ problem: expect.stringContaining('UTF-8') })
    expect(good).toMatchObject({ number: 2 })
  })

  it('keeps no line that is too long, and reads on', async () => {
    const piece = 'x'.repeat(1_048_576)
    const [bad, good] = await read(piece, piece, piece, `${piece}\n{"a":1}\n`)
    expect(bad).toMatchObject({ number: 1, problem: expect.stringContaining('at most') })
    expect(good).toMatchObject({ number: 2, value: { a: 1 } })
  })
})

describe('ids of lines that have none', () => {
  const line = (text: string, number: number) => {
    const parsed = parseLine(Buffer.from(text), number)
    if (parsed === null || !('value' in parsed)) throw new Error('expected a good line')
    return parsed
  }

  it('follow from number and content in a file', () => {
    const id = idOfContent(line('{"a":1}', 1))
    expect(id).toMatch(/^line_[0-9a-f]{24}$/)
    expect(idOfContent(line(' {"a":1} ', 1))).toBe(id)
    expect(idOfContent(line('{"a":1}', 2))).not.toBe(id)
    expect(idOfContent(line('{"a":2}', 1))).not.toBe(id)
  })

  it('are new ones in a stream', () => {
    const one = line('{"a":1}', 1)
    expect(randomId(one)).toMatch(/^evt_[\w-]{12}$/)
    expect(randomId(one)).not.toBe(randomId(one))
  })
})
