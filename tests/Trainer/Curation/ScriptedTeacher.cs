using System.Collections.Concurrent;
using System.Text.Json;
using Z1Coder.Perf;
using Z1Coder.Trainer.Curation.Teacher;

namespace Z1Coder.Tests.Trainer.Curation;

/// <summary>A real HTTP server on loopback; it counts how often each prompt was asked and answers what the test says.</summary>
internal sealed class ScriptedTeacher : IDisposable
{
    private readonly LoopbackTeacher _server;

    /// <param name="script">the prompt, and how often it was asked before, to a reply</param>
    public ScriptedTeacher(Func<string, int, LoopbackReply> script) => _server = new LoopbackTeacher(request =>
    {
        Last = request;
        var prompt = Prompt(request);
        return script(prompt, Asked.AddOrUpdate(prompt, 1, (_, n) => n + 1) - 1);
    });

    public ConcurrentDictionary<string, int> Asked { get; } = new();

    public LoopbackRequest? Last { get; private set; }

    public string BaseUrl => _server.BaseUrl;

    public long Requests => _server.Requests;

    public int MostAtOnce => _server.MostAtOnce;

    /// <summary>Options with short waits.</summary>
    public TeacherOptions Options => new()
    {
        BaseUrl = BaseUrl, Retries = 4, BackOffSeconds = 0.01, LongestBackOffSeconds = 0.05, TimeoutSeconds = 20,
    };

    /// <summary>The text of the completion prompt, or of the last turn.</summary>
    public static string Prompt(LoopbackRequest request)
    {
        using var json = JsonDocument.Parse(request.Body);
        return json.RootElement.TryGetProperty("prompt", out var prompt)
            ? prompt.GetString()!
            : json.RootElement.GetProperty("messages").EnumerateArray().Last().GetProperty("content").GetString()!;
    }

    public void Dispose() => _server.Dispose();
}
