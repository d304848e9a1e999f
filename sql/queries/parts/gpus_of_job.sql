-- Each GPU that the job names, otherwise one: like the slots that it takes in the pool, also on a CPU.
GREATEST(cardinality(string_to_array(spec ->> 'device', ',')), 1)
