'use strict';
// The runbook's error bodies.

class HttpError extends Error {
  constructor(statusCode, message) {
    super(message);
    this.statusCode = statusCode;
  }
}

function bodyOf(error) {
  if (error instanceof HttpError) return { statusCode: error.statusCode, message: error.message };
  return { statusCode: 500, message: 'Internal server error', error: 'Database connection failed' };
}

module.exports = { HttpError, bodyOf };
