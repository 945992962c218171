/** A list that gives one id to two contents is wrong whatever is stored: known before any of it is. */
import { WebhookError } from '../model/errors.ts'
import { type CheckedEvent, encodeEvent, sameContent } from './event-input.ts'

export class OneContent {
  readonly #seen = new Map<string, CheckedEvent>()

  /**
   * @returns the same event
   * @throws WebhookError EVENT_ID_CONFLICT
   */
  take(checked: CheckedEvent): CheckedEvent {
    const name = `${checked.tenantId}/${checked.id}`
    const known = this.#seen.get(name)
    if (known === undefined) this.#seen.set(name, checked)
    else if (!sameContent(encodeEvent(known).body, encodeEvent(checked).body)) {
      throw new WebhookError(
        'EVENT_ID_CONFLICT',
        `Expected one content for each id, got two events of this list with the id ${JSON.stringify(checked.id)} and different content; give a new event a new id. Nothing of the list is stored.`,
      )
    }
    return checked
  }
}
