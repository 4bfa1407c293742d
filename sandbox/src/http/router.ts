/** A route found: what was registered, and the values of its `{name}` segments. */
export interface Match<T> {
  readonly value: T
  readonly path: Record<string, string>
}

interface Node<T> {
  readonly literals: Map<string, Node<T>>
  /** The `{name}` child; routes of one place may name their parameters differently. */
  parameter: Node<T> | null
  readonly routes: Map<string, { value: T; names: string[] }>
}

function createNode<T>(): Node<T> {
  return { literals: new Map(), parameter: null, routes: new Map() }
}

/** Finds routes by method and path; a literal segment wins over a `{name}`. */
export class Router<T> {
  private readonly root: Node<T> = createNode()

  /** `key` is `GET /v1/customers/{id}`. */
  add(key: string, value: T): void {
    const [method = '', template = ''] = key.split(' ')
    const names: string[] = []
    let node = this.root
    for (const segment of segmentsOf(template)) {
      if (segment.startsWith('{')) {
        names.push(segment.slice(1, -1))
        node.parameter ??= createNode()
        node = node.parameter
      } else {
        const child = node.literals.get(segment) ?? createNode<T>()
        node.literals.set(segment, child)
        node = child
      }
    }
    node.routes.set(method, { value, names })
  }

  find(method: string, path: string): Match<T> | null {
    return this.search(this.root, segmentsOf(path), 0, [], method)
  }

  private search(node: Node<T>, segments: string[], at: number, values: string[], method: string): Match<T> | null {
    const segment = segments[at]
    if (segment === undefined) {
      const route = node.routes.get(method)
      if (route === undefined) return null
      return { value: route.value, path: Object.fromEntries(route.names.map((name, index) => [name, values[index] ?? ''])) }
    }
    const literal = node.literals.get(segment)
    const found = literal === undefined ? null : this.search(literal, segments, at + 1, values, method)
    if (found !== null || node.parameter === null) return found
    return this.search(node.parameter, segments, at + 1, [...values, decode(segment)], method)
  }
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '')
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}
