using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>The JSON of answers: one body, or the events of a stream.</summary>
internal sealed class ServeReply(ServeRequest request, string model)
{
    /// <summary>The body is JSON by its media type and stands in no HTML: text of code stays short and readable.</summary>
    private static readonly JsonWriterOptions s_writer = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private readonly string _id = (request.IsChat ? "chatcmpl-" : "cmpl-") + Guid.NewGuid().ToString("N");
    private readonly long _created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    /// <summary>JSON bytes of one object.</summary>
    public static ReadOnlyMemory<byte> Json(Action<Utf8JsonWriter> body)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, s_writer))
        {
            json.WriteStartObject();
            body(json);
            json.WriteEndObject();
        }

        return buffer.WrittenMemory;
    }

    public static ReadOnlyMemory<byte> Error(ServeException e) => Json(json =>
    {
        json.WriteStartObject("error");
        json.WriteString("message", e.Message);
        json.WriteString("type", e.Type);
        json.WriteString("param", e.Param);
        json.WriteString("code", e.Code);
        json.WriteEndObject();
    });

    /// <summary>The whole answer.</summary>
    public ReadOnlyMemory<byte> Body(Completion[] completions) => Json(json =>
    {
        Head(json, request.IsChat ? "chat.completion" : "text_completion");
        json.WriteStartArray("choices");
        for (var i = 0; i < completions.Length; i++)
        {
            json.WriteStartObject();
            json.WriteNumber("index", i);
            if (request.IsChat)
            {
                json.WriteStartObject("message");
                json.WriteString("role", "assistant");
                json.WriteString("content", completions[i].Text);
                json.WriteNull("refusal");
                json.WriteEndObject();
            }
            else
            {
                json.WriteString("text", completions[i].Text);
            }

            json.WriteNull("logprobs");
            json.WriteString("finish_reason", Reason(completions[i].Finish));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        Usage(json, completions);
    });

    /// <summary>The first event of a chat choice: its role.</summary>
    public ReadOnlyMemory<byte> Role(int index) => Event(json => Choice(json, index, "", null, role: true), null);

    /// <summary>New text, or the end of a choice.</summary>
    public ReadOnlyMemory<byte> Delta(int index, string text, FinishReason? finish) =>
        Event(json => Choice(json, index, text, finish, role: false), null);

    /// <summary>The last event when usage was asked for.</summary>
    public ReadOnlyMemory<byte> UsageEvent(Completion[] completions) => Event(null, completions);

    private static string Reason(FinishReason finish) => finish is FinishReason.EndToken or FinishReason.StopString ? "stop" : "length";

    private ReadOnlyMemory<byte> Event(Action<Utf8JsonWriter>? choice, Completion[]? usage) => Json(json =>
    {
        Head(json, request.IsChat ? "chat.completion.chunk" : "text_completion");
        json.WriteStartArray("choices");
        choice?.Invoke(json);
        json.WriteEndArray();
        if (usage is not null)
        {
            Usage(json, usage);
        }
        else if (request.IncludeUsage)
        {
            json.WriteNull("usage");
        }
    });

    private void Choice(Utf8JsonWriter json, int index, string text, FinishReason? finish, bool role)
    {
        json.WriteStartObject();
        json.WriteNumber("index", index);
        if (request.IsChat)
        {
            json.WriteStartObject("delta");
            if (role)
            {
                json.WriteString("role", "assistant");
            }

            if (role || text.Length > 0)
            {
                json.WriteString("content", text);
            }

            json.WriteEndObject();
        }
        else
        {
            json.WriteString("text", text);
        }

        json.WriteNull("logprobs");
        json.WriteString("finish_reason", finish is { } reason ? Reason(reason) : null);
        json.WriteEndObject();
    }

    private void Head(Utf8JsonWriter json, string kind)
    {
        json.WriteString("id", _id);
        json.WriteString("object", kind);
        json.WriteNumber("created", _created);
        json.WriteString("model", model);
    }

    /// <summary>A prompt counts once, however many choices complete it; cached are the tokens that its first choice found.</summary>
    private void Usage(Utf8JsonWriter json, Completion[] completions)
    {
        var prompt = request.Prompts.Sum(p => (long)p.Length);
        var written = completions.Sum(c => (long)c.Tokens.Length);
        json.WriteStartObject("usage");
        json.WriteNumber("prompt_tokens", prompt);
        json.WriteNumber("completion_tokens", written);
        json.WriteNumber("total_tokens", prompt + written);
        json.WriteStartObject("prompt_tokens_details");
        json.WriteNumber("cached_tokens", completions.Where((_, i) => i % request.Choices == 0).Sum(c => (long)c.CachedTokens));
        json.WriteEndObject();
        json.WriteEndObject();
    }
}
