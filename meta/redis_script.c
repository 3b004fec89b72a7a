/*
 * The scripts. Each gives TIME's two numbers first. Times are compared as 16 hex digits, as they stand in values. pcall: a
 * key of another type (somebody else's, or damage) counts as a value that does not verify.
 */
#include "meta/redis_internal.h"

#define AGE                                                                                  \
	"local t=redis.call('TIME') local now=t[1]*1000000+t[2] "                             \
	"if now-tonumber(ARGV[1],16)>tonumber(ARGV[3]) then return {t[1],t[2],0} end "

const char *const redis_script_text[REDIS_SCRIPTS] = {
	[SCRIPT_GET] = "local t=redis.call('TIME') return {t[1],t[2],redis.pcall('GET',KEYS[1])}",

	[SCRIPT_LOOKUP] = "local t=redis.call('TIME') local n=redis.pcall('GET',KEYS[1]) local r=false "
			  "if type(n)=='string' and string.sub(n,1,1)=='E' then "
			  "r=redis.pcall('GET',ARGV[1]..string.sub(n,34,49)) end "
			  "return {t[1],t[2],n,r}",

	[SCRIPT_PAGE] = "local t=redis.call('TIME') return {t[1],t[2],redis.pcall('HGET',KEYS[1],ARGV[1])}",

	/* A tombstone at or after the stamp refuses; so does a record with a higher ver, or the same of a later moment. */
	[SCRIPT_FILL] = AGE "local done=0 for i,k in ipairs(KEYS) do local a=1+3*i "
			    "local c=redis.pcall('GETRANGE',k,0,32) "
			    "local ok=ARGV[a+1]=='1' or type(c)~='string' or #c<33 "
			    "if not ok then local s,v=string.sub(c,2,17),string.sub(c,18,33) "
			    "if string.sub(c,1,1)=='T' then ok=s<ARGV[1] "
			    "else ok=v<ARGV[a] or (v==ARGV[a] and s<ARGV[1]) end end "
			    "if ok then redis.call('SET',k,ARGV[a+2],'PX',ARGV[2]) done=done+1 end end "
			    "return {t[1],t[2],done}",

	[SCRIPT_FILL_PAGE] = AGE "local k=KEYS[1] local d=redis.pcall('HGET',k,'t') "
				 "if ARGV[4]=='1' or type(d)=='table' then redis.call('UNLINK',k) d=false end "
				 "if d and d>=ARGV[1] then return {t[1],t[2],0} end "
				 "local c=redis.call('HGET',k,ARGV[5]) "
				 "if c then if #c>=33 and string.sub(c,2,17)>=ARGV[1] then return {t[1],t[2],0} end "
				 "elseif redis.call('HLEN',k)>=tonumber(ARGV[7]) then redis.call('UNLINK',k) end "
				 "redis.call('HSET',k,ARGV[5],ARGV[6]) redis.call('PEXPIRE',k,ARGV[2]) "
				 "return {t[1],t[2],1}",

	[SCRIPT_TELL] = "local t=redis.call('TIME') local n=tonumber(ARGV[1]) "
			"local s=string.format('%016x',t[1]*1000000+t[2]) "
			"for i,k in ipairs(KEYS) do "
			"if i<=n then redis.call('SET',k,'T'..s..'0000000000000000','PX',ARGV[2]) "
			"else redis.call('UNLINK',k) redis.call('HSET',k,'t',s) redis.call('PEXPIRE',k,ARGV[2]) end end "
			"if ARGV[4]~='' then redis.call('PUBLISH',ARGV[3],ARGV[4]) end "
			"return {t[1],t[2],0}",

	[SCRIPT_TIME] = "local t=redis.call('TIME') return {t[1],t[2],0}",
};
