import psycopg
from pathlib import Path
def seed(url, scale=1.0):
    with psycopg.connect(url) as c:
        for m in sorted((Path(__file__).parent/'apps/propertypulse-api/prisma/migrations').glob('*/migration.sql')):
            c.execute(m.read_text())
