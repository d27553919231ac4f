'use strict';
// The runbook's error bodies.

class HttpError extends Error {
  constructor(statusCode, message, headers = {}) {
    super(message);
    this.statusCode = statusCode;
    this.headers = headers;
  }
}

function bodyOf(error) {
  if (error instanceof HttpError) return { statusCode: error.statusCode, message: error.message };
  const database = /^Mongo/.test(error.name) || error.message === 'Database not connected';
  return {
    statusCode: 500,
    message: 'Internal server error',
    error: database ? 'Database connection failed' : 'Unexpected error',
  };
}

function errorHandler(error, response) {
  const body = bodyOf(error);
  if (body.statusCode >= 500) console.error(`❌ ${body.message}: ${error.message}`);
  response.writeHead(body.statusCode, { 'content-type': 'application/json', ...(error.headers || {}) });
  response.end(JSON.stringify(body));
}

module.exports = { HttpError, errorHandler };
