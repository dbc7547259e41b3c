import requests
import json

url = "http://localhost:3001/api/chat.php"
headers = {
    "Content-Type": "application/json",
    "Authorization": "Bearer freellmapi-YOUR-KEY"
}
data = {
    "messages": [{"role": "user", "content": "Hello!"}],
    "stream": True
}
response = requests.post(url, headers=headers, json=data, stream=True)
for line in response.iter_lines():
    if line.startswith(b'data: '):
        data = line[6:].decode()
        if data == '[DONE]':
            break
        try:
            chunk = json.loads(data)
            content = chunk['choices'][0]['delta'].get('content', '')
            print(content, end='', flush=True)
        except:
            pass
