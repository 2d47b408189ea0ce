-- A conversation that was made without a title ("new chat") has its first question as title, in one line.

drop trigger touch_conversation;

create trigger touch_conversation after insert on chat_logs
begin
  update chat_conversations
  set updated_at = max(updated_at, new.created_at),
      title = case when title is null and new.sender = 'user'
                   then nullif(substr(trim(replace(replace(replace(replace(replace(replace(replace(new.message,
                        char(9), ' '), char(10), ' '), char(13), ' '), char(12288), ' '),
                        '    ', ' '), '  ', ' '), '  ', ' ')), 1, 40), '')
                   else title end
  where id = new.conversation_id and (updated_at < new.created_at or (title is null and new.sender = 'user'));
end;
