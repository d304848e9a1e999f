-- Numbers are never used twice: a reference to a deleted version must never point to another version.
INSERT INTO dataset_numbers (name, last_version)
VALUES (%(name)s, 1)
ON CONFLICT (name) DO UPDATE SET last_version = dataset_numbers.last_version + 1
RETURNING last_version;
