-- A catalog of schema version 1 as it was made before there were migrations, with rows in every
-- table. Never changed: files like it are in use.
PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
CREATE TABLE deployment (
	singleton INTEGER NOT NULL, 
	deployment_id VARCHAR(32) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (singleton)
);
INSERT INTO "deployment" VALUES(1,'dddddddddddddddddddddddddddddddd',1790000000000);
CREATE TABLE graves (
	payload_id VARCHAR(32) NOT NULL, 
	object_id VARCHAR(32) NOT NULL, 
	reason VARCHAR NOT NULL, 
	buried_ms BIGINT NOT NULL, 
	PRIMARY KEY (payload_id)
);
INSERT INTO "graves" VALUES('qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','erased',1790000000006);
CREATE TABLE instances (
	instance_id VARCHAR(32) NOT NULL, 
	started_ms BIGINT NOT NULL, 
	lease_until_ms BIGINT NOT NULL, 
	PRIMARY KEY (instance_id)
);
INSERT INTO "instances" VALUES('iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii',1790000000002,1790000015002);
CREATE TABLE intents (
	payload_id VARCHAR(32) NOT NULL, 
	object_id VARCHAR(32) NOT NULL, 
	instance_id VARCHAR(32) NOT NULL, 
	fence INTEGER NOT NULL, 
	state VARCHAR NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (payload_id)
);
INSERT INTO "intents" VALUES('rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr','cccccccccccccccccccccccccccccccc','iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii',1,'open',1790000000007);
CREATE TABLE key_versions (
	session_id VARCHAR(64) NOT NULL, 
	role VARCHAR NOT NULL, 
	miner VARCHAR(42) NOT NULL, 
	version INTEGER NOT NULL, 
	recipient VARCHAR NOT NULL, 
	key_class VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (session_id, role, miner, version)
);
INSERT INTO "key_versions" VALUES('','router','',1,'age1router','classic','active',1);
INSERT INTO "key_versions" VALUES('101','user','',1,'age1user','classic','active',1790000000003);
INSERT INTO "key_versions" VALUES('101','miner','0x00000000000000000000000000000000000000a1',1,'age1miner','classic','active',1790000000003);
CREATE TABLE markers (
	backend VARCHAR NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (backend)
);
INSERT INTO "markers" VALUES('local',1790000000001);
CREATE TABLE objects (
	object_id VARCHAR(32) NOT NULL, 
	session_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(64) NOT NULL, 
	direction VARCHAR NOT NULL, 
	miner VARCHAR(42) NOT NULL, 
	state VARCHAR NOT NULL, 
	generation INTEGER NOT NULL, 
	payload_id VARCHAR(32) NOT NULL, 
	head BLOB, 
	cid VARCHAR NOT NULL, 
	size BIGINT NOT NULL, 
	payload_size BIGINT NOT NULL, 
	sealed_size BIGINT NOT NULL, 
	key_class VARCHAR NOT NULL, 
	wrapped_for JSON NOT NULL, 
	file_key_print BLOB NOT NULL, 
	sequence BIGINT NOT NULL, 
	created_ms BIGINT NOT NULL, 
	erased_ms BIGINT, 
	PRIMARY KEY (object_id), 
	FOREIGN KEY(session_id) REFERENCES sessions (session_id), 
	UNIQUE (payload_id), 
	UNIQUE (file_key_print)
);
INSERT INTO "objects" VALUES('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','101','1','input','','committed',1,'pppppppppppppppppppppppppppppppp',X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F606162636465666768696A6B6C6D6E6F707172737475767778797A7B7C7D7E7F808182838485868788898A8B8C8D8E8F909192939495969798999A9B9C9D9E9FA0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBFC0C1C2C3C4C5C6C7C8C9CACBCCCDCECFD0D1D2D3D4D5D6D7D8D9DADBDCDDDEDFE0E1E2E3E4E5E6E7E8E9EAEBECEDEEEFF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF','bafkreia',5,21,277,'classic','[{"role": "user", "miner": null, "version": 1, "recipient": "age1user"}]',X'00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF',1,1790000000004,NULL);
INSERT INTO "objects" VALUES('bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','101','2','output','0x00000000000000000000000000000000000000a1','erasing',1,'qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq',NULL,'bafkreib',1099511627776,1099511627792,1099511628076,'classic','[]',X'0101010101010101010101010101010101010101010101010101010101010101',2,1790000000005,1790000000006);
CREATE TABLE parties (
	session_id VARCHAR(64) NOT NULL, 
	role VARCHAR NOT NULL, 
	miner VARCHAR(42) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (session_id, role, miner), 
	FOREIGN KEY(session_id) REFERENCES sessions (session_id)
);
INSERT INTO "parties" VALUES('101','user','',1790000000003);
INSERT INTO "parties" VALUES('101','miner','0x00000000000000000000000000000000000000a1',1790000000003);
CREATE TABLE placements (
	payload_id VARCHAR(32) NOT NULL, 
	segment INTEGER NOT NULL, 
	backend VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	PRIMARY KEY (payload_id, segment, backend)
);
INSERT INTO "placements" VALUES('pppppppppppppppppppppppppppppppp',0,'local','placed');
CREATE TABLE segments (
	payload_id VARCHAR(32) NOT NULL, 
	segment INTEGER NOT NULL, 
	size BIGINT, 
	leaf_digests BLOB, 
	tag_key BLOB, 
	leaf_tags BLOB, 
	PRIMARY KEY (payload_id, segment)
);
INSERT INTO "segments" VALUES('pppppppppppppppppppppppppppppppp',0,21,X'0202020202020202020202020202020202020202020202020202020202020202',X'0303030303030303030303030303030303030303030303030303030303030303',X'04040404040404040404040404040404');
INSERT INTO "segments" VALUES('rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr',0,NULL,NULL,NULL,NULL);
CREATE TABLE sessions (
	session_id VARCHAR(64) NOT NULL, 
	custody VARCHAR NOT NULL, 
	key_class VARCHAR NOT NULL, 
	created_ms BIGINT NOT NULL, 
	PRIMARY KEY (session_id)
);
INSERT INTO "sessions" VALUES('101','router','classic',1790000000003);
CREATE TABLE slots (
	session_id VARCHAR(64) NOT NULL, 
	task_id VARCHAR(64) NOT NULL, 
	direction VARCHAR NOT NULL, 
	miner VARCHAR(42) NOT NULL, 
	object_id VARCHAR(32) NOT NULL, 
	payload_id VARCHAR(32) NOT NULL, 
	PRIMARY KEY (session_id, task_id, direction, miner), 
	UNIQUE (payload_id)
);
INSERT INTO "slots" VALUES('101','1','input','','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','pppppppppppppppppppppppppppppppp');
INSERT INTO "slots" VALUES('101','2','output','0x00000000000000000000000000000000000000a1','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb','qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq');
INSERT INTO "slots" VALUES('101','3','input','','cccccccccccccccccccccccccccccccc','rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr');
CREATE TABLE tokens (
	digest BLOB NOT NULL, 
	kind VARCHAR NOT NULL, 
	session_id VARCHAR(64) NOT NULL, 
	miner VARCHAR(42) NOT NULL, 
	created_ms BIGINT NOT NULL, 
	expires_ms BIGINT, 
	revoked_ms BIGINT, 
	PRIMARY KEY (digest)
);
INSERT INTO "tokens" VALUES(X'0505050505050505050505050505050505050505050505050505050505050505','operator','','',1790000000000,NULL,NULL);
INSERT INTO "tokens" VALUES(X'0606060606060606060606060606060606060606060606060606060606060606','user','101','',1790000000003,1797776000003,NULL);
CREATE INDEX tokens_by_party ON tokens (kind, session_id, miner);
CREATE UNIQUE INDEX objects_by_session ON objects (session_id, sequence);
COMMIT;
PRAGMA user_version = 1;
