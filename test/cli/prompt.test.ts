import { EventEmitter } from 'node:events'
import { expect, it } from 'vitest'
import { Prompt } from '../../src/cli/prompt.ts'

class Keyboard extends EventEmitter {
  raw = false
  setRawMode(raw: boolean): void {
    this.raw = raw
  }
  setEncoding(): void {}
  resume(): void {}
  pause(): void {}
}

function open(): { keyboard: Keyboard; prompt: Prompt; lines: string[]; interrupts: () => number } {
  const keyboard = new Keyboard()
  const lines: string[] = []
  let interrupts = 0
  const prompt = new Prompt(keyboard, {
    changed: () => {},
    line: (text) => lines.push(text),
    interrupt: () => {
      interrupts += 1
    },
  })
  prompt.open()
  return { keyboard, prompt, lines, interrupts: () => interrupts }
}

it('takes lines, pasted ones too', () => {
  const { keyboard, prompt, lines } = open()
  keyboard.emit('data', '{"a":1}\r{"b"')
  keyboard.emit('data', ':2}\n\r')
  keyboard.emit('data', 'rest')
  expect(lines).toEqual(['{"a":1}', '{"b":2}', ''])
  expect(prompt.text).toBe('rest')
})

it('deletes whole characters', () => {
  const { keyboard, prompt } = open()
  keyboard.emit('data', '가나👨‍👩‍👧')
  keyboard.emit('data', '\x7f')
  expect(prompt.text).toBe('가나')
  keyboard.emit('data', '\x15')
  expect(prompt.text).toBe('')
})

it('ignores cursor and function keys', () => {
  const { keyboard, prompt } = open()
  keyboard.emit('data', 'a\x1b[A\x1b[1;5Cb\x1bOPc\x1b')
  expect(prompt.text).toBe('abc')
})

it('makes Ctrl-C and Ctrl-D on an empty line an interrupt, and gives the terminal back', () => {
  const { keyboard, prompt, interrupts } = open()
  expect(keyboard.raw).toBe(true)
  keyboard.emit('data', '\x03')
  keyboard.emit('data', 'a\x04')
  expect(interrupts()).toBe(1)
  keyboard.emit('data', '\x15\x04')
  expect(interrupts()).toBe(2)
  prompt.close()
  expect(keyboard.raw).toBe(false)
  expect(keyboard.listenerCount('data')).toBe(0)
})
