'use strict';
// The runbook's singleton: one client, connected once, used by every route.

const { MongoClient } = require('mongodb');

class DatabaseConfig {
  constructor() {
    this.client = null;
  }

  async connect(uri) {
    this.client = new MongoClient(uri, { serverSelectionTimeoutMS: 2000, maxPoolSize: 10 });
    try {
      await this.client.connect();
    } catch (error) {
      if (error.code === 18) throw error; // the password is wrong: waiting will not mend it
      console.error(`❌ Database connection failed: ${error.message}`);
    }
  }

  getDatabase() {
    if (!this.client) throw new Error('Database not connected');
    return this.client.db();
  }

  async executeOperation(operation) {
    return operation(this.getDatabase());
  }

  async isHealthy() {
    try {
      await this.getDatabase().collection('users').findOne({}, { projection: { _id: 1 }, maxTimeMS: 2000 });
      return true;
    } catch (error) {
      console.error(`❌ Database health check failed: ${error.message}`);
      return false;
    }
  }
}

module.exports = { databaseConfig: new DatabaseConfig() };
