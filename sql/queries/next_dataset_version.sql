-- Numbers are never used twice: what named a deleted version must not stand for another one.
INSERT INTO dataset_numbers (name, last_version)
VALUES (%(name)s, 1)
ON CONFLICT (name) DO UPDATE SET last_version = dataset_numbers.last_version + 1
RETURNING last_version;
