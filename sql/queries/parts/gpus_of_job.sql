-- The number of GPUs in the job's `device`, or 1 if it lists none, even for a CPU. The job takes the same number
-- of pool slots.
GREATEST(cardinality(string_to_array(spec ->> 'device', ',')), 1)
