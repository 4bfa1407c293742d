const text = (description: string) => ({ type: 'string', description })
const jsonBody = (properties: Record<string, object>) => ({
  required: true,
  content: { 'application/json': { schema: { type: 'object', required: Object.keys(properties), properties } } },
})
const answers = (status: number, description: string) => ({ [status]: { description } })
const tags = ['Mini-RAG']

/** The service's own routes (MR-7 to MR-10), as an OpenAPI document has them. */
export const PATHS = {
  '/api/v1/ask': {
    post: {
      tags,
      summary: 'Answer a question from the workspace’s documents',
      requestBody: jsonBody({ question: text('The question.') }),
      responses: answers(200, 'The answer and where it is from.'),
    },
  },
  '/api/v1/ingest/urls': {
    post: {
      tags,
      summary: 'Ingest pages',
      requestBody: jsonBody({ urls: { type: 'array', items: { type: 'string' } } }),
      responses: answers(201, 'The sources.'),
    },
  },
  '/api/v1/ingest/files': {
    post: {
      tags,
      summary: 'Ingest documents',
      requestBody: {
        required: true,
        content: {
          'multipart/form-data': { schema: { type: 'object', properties: { files: { type: 'string', format: 'binary' } } } },
        },
      },
      responses: answers(201, 'The sources.'),
    },
  },
  '/api/v1/sources': {
    get: { tags, summary: 'The workspace’s sources', responses: answers(200, 'The sources.') },
    post: {
      tags,
      summary: 'Add a source',
      requestBody: jsonBody({ name: text('Its name.'), text: text('Its text.') }),
      responses: answers(201, 'The source.'),
    },
  },
}
